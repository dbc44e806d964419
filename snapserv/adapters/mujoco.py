"""Models of MuJoCo: ``mujoco:FILE.xml`` (or ``.mjb``), stepped by its own engine.

What moves is put out as MuJoCo has it, sensors by their names. `get` and `set` reach the state (``qpos``, ``ctrl``,
``xfrc_applied.3``) and the model (``opt.gravity``, ``body_mass.2``).

Source: MuJoCo's documentation, https://mujoco.readthedocs.io/en/stable/programming/simulation.html
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
import mujoco  # type: ignore[import-untyped,import-not-found,unused-ignore]
import numpy as np
from snapserv_client.plain import Value

from snapserv.errors import BadRequestError, NotFoundError, SimulationError
from snapserv.simulation.base import Simulation, exported

from . import opengl
from .forwarding import Forwarding

_UNSTABLE = ("mjWARN_BADQPOS", "mjWARN_BADQVEL", "mjWARN_BADQACC")
"""Warnings after which the engine has begun anew by itself."""
_FULL = ("mjWARN_CONTACTFULL", "mjWARN_CNSTRFULL")
"""Warnings after which it has left out contacts or constraints."""


def adapt(rest: str) -> type[Simulation]:
    """Return the class that serves the model in the file ``rest``.

    Raises:
        NotFoundError: There is no such file.
    """
    if not os.path.isfile(rest):
        raise NotFoundError(f"no file {rest!r}", hint="mujoco:FILE.xml or mujoco:FILE.mjb")
    name = os.path.splitext(os.path.basename(rest))[0]
    doc = f"The model {os.path.basename(rest)} of MuJoCo."
    return type(name, (MujocoSimulation,), {"path": os.path.abspath(rest), "__doc__": doc})


class MujocoSimulation(Forwarding):
    """A model of MuJoCo."""

    path: ClassVar[str]

    class Inputs(msgspec.Struct):
        """Controls of all actuators, which stay what they were without any. Attributes are ``set`` before."""

        ctrl: list[float] | Value = None
        set: dict[str, Value] | None = None

    def setup(self, keyframe: str = "", timestep: Annotated[float, msgspec.Meta(ge=0)] = 0.0) -> None:
        """Load the model.

        Args:
            keyframe: The name of the model's keyframe to begin at; its default state without one.
            timestep: Seconds a tick; the model's own without.
        """
        try:
            loaded = mujoco.MjModel.from_binary_path if self.path.endswith(".mjb") else mujoco.MjModel.from_xml_path
            self.model = loaded(self.path)
        except ValueError as cause:
            raise BadRequestError(f"{self.path}: {cause}", hint="MuJoCo cannot read it") from cause
        if timestep:
            self.model.opt.timestep = timestep
        self.data = mujoco.MjData(self.model)
        self._renderer: Any = None
        self.chance = self.rng  # there from the beginning, so that branches have streams of their own
        self.reset(keyframe)

    def step(self, inputs: Inputs) -> dict[str, Value]:
        """Advance by the model's time step.

        Raises:
            BadRequestError: The controls are not one for each actuator, or not finite.
            SimulationError: It became unstable, and MuJoCo has begun anew by itself; or its arena was too small.
        """
        ctrl = None if inputs.ctrl is None else self._controls(inputs.ctrl)
        self.put(self.prepare_settings(inputs.set))
        if ctrl is not None:
            self.data.ctrl[:] = ctrl
        before = self.data.time
        mujoco.mj_step(self.model, self.data)
        self._refuse_warnings(before)
        return self.outputs()

    @exported
    def outputs(self) -> dict[str, Value]:
        """Return the time, positions, velocities, activations, and what each sensor says, by its name.

        A sensor says what was so when the step began, as MuJoCo has it.
        """
        sensors = {
            self.model.sensor(number).name or str(number): self._sensor(number)
            for number in range(self.model.nsensor)
        }
        return {
            "time": self.data.time,
            "qpos": self.data.qpos.copy(),
            "qvel": self.data.qvel.copy(),
            "act": self.data.act.copy(),
            "sensors": sensors,
        }

    @exported
    def reset(self, keyframe: str = "") -> dict[str, Value]:
        """Begin anew, at a keyframe of the model's or its default state; return the outputs there.

        Raises:
            NotFoundError: The model has no keyframe of that name.
        """
        number = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_KEY, keyframe) if keyframe else -1
        if keyframe and number < 0:
            known = [self.model.key(each).name for each in range(self.model.nkey)]
            raise NotFoundError(f"no keyframe {keyframe!r}", hint=f"keyframes: {', '.join(known) or 'none'}")
        if keyframe:
            mujoco.mj_resetDataKeyframe(self.model, self.data, number)
        else:
            mujoco.mj_resetData(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        return self.outputs()

    @exported
    def render(self, height: int = 240, width: int = 320, camera: int | str = -1) -> Value:
        """Return a frame, uint8, shape (height, width, 3), of a camera by number or name; a free one by default.

        Raises:
            BadRequestError: There is no such camera, or the model's ``offwidth`` and ``offheight`` are smaller.
            UnsupportedError: This machine has no OpenGL.
        """
        with opengl.drawing():
            if self._renderer is None or (self._renderer.height, self._renderer.width) != (height, width):
                self._renderer = mujoco.Renderer(self.model, height, width)
            self._renderer.update_scene(self.data, camera)
            frame: Value = self._renderer.render()
            return frame

    @exported
    def random_action(self) -> dict[str, Value]:
        """Return controls by chance, each within its range or, without one, of a normal distribution."""
        limited = self.model.actuator_ctrllimited.astype(bool)
        low, high = self.model.actuator_ctrlrange.T
        drawn = np.where(limited, self.chance.uniform(low, high), self.chance.standard_normal(self.model.nu))
        return {"ctrl": drawn.tolist()}

    def example_inputs(self) -> dict[str, Value]:
        """Return controls by chance."""
        return self.random_action()

    @property
    def authors(self) -> object:
        """The state."""
        return self.data

    @property
    def holders(self) -> Sequence[object]:
        """The state, then the model."""
        return [self.data, self.model]

    def _controls(self, given: Any) -> np.ndarray[Any, Any]:
        try:
            ctrl = np.asarray(given, np.float64)
        except (TypeError, ValueError) as cause:
            raise BadRequestError(f"ctrl: {cause}", hint=f"{self.model.nu} numbers") from cause
        if ctrl.shape != (self.model.nu,):
            raise BadRequestError(f"ctrl has shape {ctrl.shape}", hint=f"{self.model.nu} numbers are wanted")
        if not np.isfinite(ctrl).all():
            raise BadRequestError("ctrl is not finite")
        return ctrl

    def _sensor(self, number: int) -> Any:
        first, size = self.model.sensor_adr[number], self.model.sensor_dim[number]
        return (
            float(self.data.sensordata[first]) if size == 1 else self.data.sensordata[first : first + size].copy()
        )

    def _refuse_warnings(self, before: float) -> None:
        if not self.data.warning.number.any():
            return
        names = {int(kind): kind.name for kind in mujoco.mjtWarning.__members__.values()}
        met = [names.get(number, "") for number in np.flatnonzero(self.data.warning.number).tolist()]
        if any(name in _UNSTABLE for name in met):
            raise SimulationError(
                f"MuJoCo found the state unstable ({', '.join(met)}) after {before:g} s, and began anew by itself",
                hint="take smaller time steps or weaker controls, from a snapshot before",
            )
        if any(name in _FULL for name in met):
            raise SimulationError(f"MuJoCo left out contacts ({', '.join(met)})", hint="give the model more memory")
