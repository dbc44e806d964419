"""Threads that SDL keeps once pygame has drawn or played something: with them nothing can be forked.

The timer's counts for sounds and repeated keys, of which there are none here, and is started again when it must be.
That of a sound device feeds it; without the device, what is played is silent and never ends.

Sources: SDL's reference, https://wiki.libsdl.org/SDL2/SDL_QuitSubSystem and SDL_CloseAudioDevice
"""

from __future__ import annotations

import ctypes
import os

from snapserv.ext import fork

INIT_TIMER = 1
MOST_DEVICES = 16
"""How many devices SDL has at a time, numbered from 1."""


def play_nothing() -> None:
    """Have SDL open no window and no loudspeaker in this process, unless the user has chosen what it does."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")


def end_threads() -> None:
    """End the threads of SDL, if there are some."""
    if fork.count_threads() == 1:
        return
    with open("/proc/self/maps") as maps:
        library = next((line.split(maxsplit=5)[-1].strip() for line in maps if "/libSDL2-" in line), None)
    if library is None:
        return
    sdl = ctypes.CDLL(library)
    for device in range(1, MOST_DEVICES + 1):
        if sdl.SDL_GetAudioDeviceStatus(device):
            sdl.SDL_CloseAudioDevice(device)
    while sdl.SDL_WasInit(INIT_TIMER):
        sdl.SDL_QuitSubSystem(INIT_TIMER)
