"""Films: pictures one after the other, as an animated GIF, or as an MP4 where there is ffmpeg."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadRequestError, UnsupportedError
from .colours import fixed_colours
from .sheets import Array, need_matplotlib

MOST_FRAMES = 600
COLOURS = 256
"""As many as a GIF can have: the same ones in all of its frames, so that nothing flickers."""
HOLD_S = 1.5
"""For so long the last frame stays."""


@dataclass(frozen=True)
class Reel:
    """Where a film goes, and how quickly it runs.

    Attributes:
        gif: The GIF, if one is wanted.
        mp4: The MP4, if one is wanted.
        frame_s: For how long each frame is seen.
    """

    gif: Path | None = None
    mp4: Path | None = None
    frame_s: float = 0.1

    @staticmethod
    def of(path: Path | str | Reel, frame_s: float) -> Reel:
        """Return the reel for a file, by how its name ends.

        Raises:
            BadRequestError: It is no name of either.
        """
        if isinstance(path, Reel):
            return Reel(path.gif, path.mp4, frame_s)
        kind = Path(path).suffix.lower()
        if kind not in (".gif", ".mp4"):
            raise BadRequestError(f"{path} is the name of no film", hint="one that ends in .gif or .mp4")
        return Reel(Path(path), None, frame_s) if kind == ".gif" else Reel(None, Path(path), frame_s)

    def check(self, frames: int) -> None:
        """Check that a film can be made, before anything is done for it.

        Raises:
            BadRequestError: It would be too long.
            UnsupportedError: matplotlib or ffmpeg is not installed.
        """
        need_matplotlib()
        if self.mp4 is not None:
            ffmpeg()
        if frames > MOST_FRAMES:
            raise BadRequestError(
                f"a film of {frames:,} frames is too long: {MOST_FRAMES} are the most",
                hint="take one every so many ticks: --every N",
            )

    def write(self, frames: int, frame: Callable[[int], Array]) -> None:
        """Write it; ``frame`` returns the pixels of each, by its number, more than once if asked."""
        for path in (self.gif, self.mp4):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        if self.gif is not None:
            self._write_gif(self.gif, frames, frame)
        if self.mp4 is not None:
            self._write_mp4(self.mp4, frames, frame)

    def _write_gif(self, path: Path, frames: int, frame: Callable[[int], Array]) -> None:
        from PIL.Image import fromarray

        palette = Palette([frame(number) for number in sorted({0, frames // 2, frames - 1})])
        drawn = [fromarray(palette.indices(frame(number))) for number in range(frames)]
        for each in drawn:
            each.putpalette(palette.colours.tobytes())
        lasting = round(self.frame_s * 1000)
        drawn[0].save(
            path, format="GIF", save_all=True, append_images=drawn[1:], loop=0, optimize=False,
            duration=[lasting] * (frames - 1) + [lasting + round(HOLD_S * 1000)],
        )  # fmt: skip

    def _write_mp4(self, path: Path, frames: int, frame: Callable[[int], Array]) -> None:
        first = _even(frame(0))
        rate, size = f"{1 / self.frame_s:g}", f"{first.shape[1]}x{first.shape[0]}"
        command = [
            ffmpeg(),
            "-y",
            "-loglevel",
            "error",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-s",
            size,
            "-r",
            rate,
        ]
        command += ["-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-movflags", "+faststart"]
        with subprocess.Popen(
            [*command, "-f", "mp4", str(path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=False
        ) as made:
            assert made.stdin is not None
            assert made.stderr is not None
            held = [frames - 1] * round(HOLD_S / self.frame_s)
            try:
                for number in (*range(frames), *held):
                    made.stdin.write(_even(frame(number)).tobytes())
                made.stdin.close()
            except BrokenPipeError:
                pass  # it says why
            said = made.stderr.read().decode(errors="replace").strip()
        if made.returncode:
            raise UnsupportedError(
                f"ffmpeg could not write {path}: {said.splitlines()[-1] if said else f'status {made.returncode}'}",
                hint="an ffmpeg with libx264 is needed; a GIF needs none",
            )


def ffmpeg() -> str:
    """Return the path of ffmpeg: this machine's, or the one that the package imageio-ffmpeg brings.

    Raises:
        UnsupportedError: There is none.
    """
    found = shutil.which("ffmpeg")
    if found is None:
        try:
            from imageio_ffmpeg import get_ffmpeg_exe

            found = str(get_ffmpeg_exe())
        except (ImportError, RuntimeError) as cause:
            raise UnsupportedError(
                "an MP4 needs ffmpeg, which is not installed",
                hint="apt install ffmpeg, or pip install imageio-ffmpeg; a GIF needs neither",
            ) from cause
    return found


class Palette:
    """The colours of a GIF: those that stand for something as they are, and for all others the nearest there is.

    Args:
        frames: Some of its frames.

    Attributes:
        colours: Red, green and blue of each; uint8, shape (n, 3).
    """

    def __init__(self, frames: list[Array]) -> None:
        from PIL.Image import Quantize, fromarray

        kept = np.array([*fixed_colours()], np.uint8)
        reduced = fromarray(np.concatenate(frames)).quantize(COLOURS - len(kept), method=Quantize.MEDIANCUT)
        others = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)[: COLOURS - len(kept)]
        self.colours = np.concatenate([kept, others])
        steps = np.arange(32) * 8 + 4  # each colour by the five highest bits of its parts
        grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 1, 3)
        whole, parts = self.colours.astype(np.int64), np.array_split(grid, 64)
        found = np.concatenate([((part - whole) ** 2).sum(-1).argmin(1) for part in parts])
        cells = found.astype(np.uint8).reshape(32, 1, 32, 1, 32, 1)
        self._nearest = np.broadcast_to(cells, (32, 8, 32, 8, 32, 8)).reshape(-1)
        self._nearest[whole[::-1] @ (1 << 16, 1 << 8, 1)] = np.arange(len(whole))[::-1]  # those are met exactly

    def indices(self, pixels: Array) -> Array:
        """Return which of the colours each pixel has; uint8."""
        red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
        found: Array = self._nearest[red << 16 | green << 8 | blue]
        return found


def _even(pixels: Array) -> Array:
    """Return a picture whose sides are even, as the codec wants them."""
    return np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
