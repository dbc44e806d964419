"""Frames that MuJoCo draws: by OpenGL without a screen, in one thread, so that what has drawn can be branched."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import local
from snapserv_client.errors import BadRequestError, UnsupportedError

from snapserv.adapters.opengl import PLATFORMS
from snapserv.doctor.simulation import examine

from .test_schemes import PENDULUM


def installed(platform: str) -> bool:
    """Return whether there are its libraries."""
    for library in dict(PLATFORMS)[platform]:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


@pytest.fixture
def pendulum(tmp_path: Path) -> str:
    (tmp_path / "pendulum.xml").write_text(PENDULUM)
    return f"mujoco:{tmp_path}/pendulum.xml"


@pytest.mark.parametrize("platform", ["", "egl", "osmesa"])
@pytest.mark.parametrize("target", ["mujoco", "dm:cartpole/swingup", "gym:HalfCheetah-v5"])
def test_what_has_drawn_a_frame_branches(
    target: str, platform: str, pendulum: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(map(installed, [platform] if platform else dict(PLATFORMS))):
        pytest.skip(f"this machine has no {platform or 'OpenGL'}")
    if target.startswith("gym:"):
        pytest.importorskip("imageio", reason="Gymnasium's MuJoCo environments want it")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if platform:
        monkeypatch.setenv("MUJOCO_GL", platform)
    action: dict[str, Any] = {"ctrl": [0.5]} if target == "mujoco" else {"action": [0.5]}
    if target.startswith("gym:"):
        action = {"action": [0.5] * 6}
    with local(pendulum if target == "mujoco" else target) as server:
        main = server.branch("main")
        first = main.call("render")
        assert first.dtype == np.uint8
        assert first.shape[2] == 3
        assert first.std() > 1, "something is seen"
        taken = main.snapshot()
        one, other = taken.branch(2)
        frames = []
        for branch in (main, one, other):
            branch.step(20, inputs=action)
            frames.append(branch.call("render"))
        assert np.array_equal(frames[0], frames[1])
        assert np.array_equal(frames[0], frames[2])
        assert not np.array_equal(frames[0], first)
        assert np.array_equal(one.snapshot().branch().call("render"), frames[0])


def test_a_camera_that_is_not_there_and_a_frame_too_large_are_refused(pendulum: str) -> None:
    if not any(map(installed, dict(PLATFORMS))):
        pytest.skip("this machine has no OpenGL")
    with local(pendulum) as server:
        main = server.branch("main")
        with pytest.raises(BadRequestError, match="no-such"):
            main.call("render", camera="no-such")
        with pytest.raises(BadRequestError, match="framebuffer width"):
            main.call("render", width=100_000)
        assert main.call("render", height=32, width=48).shape == (32, 48, 3)


def test_a_machine_without_opengl_says_so_and_the_branch_goes_on(
    pendulum: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether MuJoCo's own switch turns it off, or nothing is installed, is the same to it."""
    monkeypatch.setenv("MUJOCO_GL", "disable")
    with local(pendulum) as server:
        main = server.branch("main")
        with pytest.raises(UnsupportedError, match="OpenGL") as refused:
            main.call("render")
        assert refused.value.fault == "machine"
        assert "libegl1" in refused.value.hint
        assert main.step(5).outputs["time"] > 0, "it is not faulted"
        assert main.snapshot().branch().step().ticks == 1
    by = {finding.what: finding for finding in examine(pendulum, {})}
    assert by["its render"].verdict == "weak"
    assert "it branches without" in by["its render"].improve
    assert by["threads"].found == "one"


def test_a_package_that_cannot_be_imported_is_the_machines_fault(
    pendulum: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installed("osmesa"):
        pytest.skip("OSMesa is installed, so that MuJoCo can be imported for it")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    for target in (pendulum, "dm:cartpole/swingup"):
        with pytest.raises(UnsupportedError, match="cannot be imported here") as refused, local(target):
            pass
        assert "MUJOCO_GL=osmesa is set" in refused.value.hint
