"""What SDL keeps once pygame has drawn or played something, with which nothing can be branched: it is ended here.

The timer's thread counts for sounds and repeated keys, of which there are none here, and is started again when it
must be. That of a sound device feeds it; without the device, what is played is silent and never ends. And the
search for joysticks watches for new ones, by a descriptor of the kernel's.

Sources: SDL's reference, https://wiki.libsdl.org/SDL2/SDL_QuitSubSystem and SDL_CloseAudioDevice
"""

from __future__ import annotations

import ctypes
import os
import sys

from snapserv.ext import fork

INIT_TIMER = 0x1
INIT_JOYSTICK = 0x200
INIT_GAMECONTROLLER = 0x2000
"""It begins the search for joysticks as well, and ends it."""
MOST_DEVICES = 16
"""How many devices SDL has at a time, numbered from 1."""


def play_nothing() -> None:
    """Have SDL open no window and no loudspeaker in this process, unless the user has chosen what it does."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")


def let_go() -> None:
    """End the threads of SDL, and its search for joysticks, if there are some."""
    if "pygame" not in sys.modules and fork.count_threads() == 1:
        return
    sdl = _library()
    if sdl is None:
        return
    for system in (INIT_GAMECONTROLLER, INIT_JOYSTICK):
        while sdl.SDL_WasInit(system):
            sdl.SDL_QuitSubSystem(system)
    if fork.count_threads() == 1:
        return
    for device in range(1, MOST_DEVICES + 1):
        if sdl.SDL_GetAudioDeviceStatus(device):
            sdl.SDL_CloseAudioDevice(device)
    while sdl.SDL_WasInit(INIT_TIMER):
        sdl.SDL_QuitSubSystem(INIT_TIMER)


_found: list[ctypes.CDLL] = []


def _library() -> ctypes.CDLL | None:
    """Return SDL, where it is loaded."""
    if not _found:
        with open("/proc/self/maps") as maps:
            path = next((line.split(maxsplit=5)[-1].strip() for line in maps if "/libSDL2-" in line), None)
        if path is None:
            return None
        _found.append(ctypes.CDLL(path))
    return _found[0]
