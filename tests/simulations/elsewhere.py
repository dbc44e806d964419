"""A simulation that has libraries choose code by what the processor can do, each in a way of its own."""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import zlib
from collections.abc import Mapping
from typing import Any

import Box2D
import numpy as np

from snapserv import Field, Simulation

UNBOUND_UNTIL = 12


class Choosy(Simulation):
    """Bodies that fall (Box2D), matrices (OpenBLAS), elements (NumPy), digests (OpenSSL), functions (glibc)."""

    matrix = Field("f8", shape=(64, 64))
    total = Field("f8")
    ticks = Field("i8")

    def setup(self, seed: int = 0) -> None:
        self.matrix[:] = self.rng.standard_normal(self.matrix.shape)
        self.world = Box2D.b2World(gravity=(0, -10))
        self.world.CreateStaticBody(position=(0, -10), shapes=Box2D.b2PolygonShape(box=(50, 10)))
        self.bodies = [self.world.CreateDynamicBody(position=(0.1 * number, 4 + 3 * number)) for number in range(5)]
        for body in self.bodies:
            body.CreatePolygonFixture(box=(1, 1), density=1, friction=0.3)
        self.words = hashlib.sha256()

    def step(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.world.Step(1 / 60, 6, 2)
        a = self.matrix @ self.rng.standard_normal((64, 64))
        a /= np.abs(a).max()
        b = np.linalg.solve(a + 64 * np.eye(64), np.exp(a) * np.sin(a) + np.log1p(np.abs(a)))
        c = np.sort(b, axis=None).astype(np.float16).astype(np.float32)
        self.matrix[:] = a + b - np.fft.irfft(np.fft.rfft(a, axis=1), axis=1).T
        data = self.matrix.tobytes()
        for name in ("md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b"):
            self.words.update(hashlib.new(name, data).digest())
        self.words.update(hmac.digest(data[:32], data, "sha384") + zlib.compress(data))
        self.total += math.sin(float(c.sum())) + math.exp(-abs(float(b[0, 0]))) + math.pow(1.0001, float(c[7]))
        self.ticks += 1
        # A function of the C library that nobody has called before: where it is not bound yet, that is done now.
        terminal = os.ctermid() if self.ticks > UNBOUND_UNTIL else ""
        return {
            "terminal": terminal,
            "words": self.words.hexdigest(),
            "total": float(self.total).hex(),
            "most": int(np.argmax(b)),
            "at": [tuple(body.position) for body in self.bodies],
        }
