"""An object that draws and plays sounds with pygame, whose SDL starts a thread for each."""

from __future__ import annotations

import pygame


class Beeper:
    """Beeps at every step, and shows how often."""

    exported = ("frame", "joysticks")

    def __init__(self) -> None:
        pygame.init()
        self.screen = pygame.display.set_mode((8, 8))
        self.beep = pygame.mixer.Sound(buffer=bytes(4096))
        self.count = 0

    def step(self) -> dict[str, int]:
        """Beep."""
        pygame.time.set_timer(pygame.USEREVENT, 10)
        self.beep.play()
        self.count += 1
        self.screen.fill((self.count, 0, 0))
        pygame.display.flip()
        return {"count": self.count}

    def frame(self) -> list[int]:
        """Return the colour that is shown."""
        return list(self.screen.get_at((0, 0)))[:3]

    def joysticks(self) -> bool:
        """Return whether it would hear of new joysticks, by a descriptor of the kernel's."""
        return bool(pygame.joystick.get_init())
