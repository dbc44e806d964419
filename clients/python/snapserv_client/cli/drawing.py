"""Options of commands that draw: where colours begin and end, what a film shows, and where it goes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import BadRequestError
from .parameters import Option
from .saving import saving

if TYPE_CHECKING:
    from ..pictures.films import Reel

Limits = Annotated[str | None, Option("--limits", help="LOW:HIGH, the numbers of the first and last colour.")]
Colours = Annotated[str | None, Option("--colours", help="A colour map of matplotlib's, not the field's own.")]
Gif = Annotated[Path | None, Option("--gif", help="Write a film: an animated GIF.")]
Mp4 = Annotated[Path | None, Option("--mp4", help="Write a film, by ffmpeg.")]
Filmed = Annotated[
    str | None, Option("--field", help="What the film shows: a field, or as cube[3,:,:] a part of one.")
]


def limits_of(text: str | None) -> tuple[float, float] | None:
    """Return the limits that ``--limits`` writes.

    Raises:
        BadRequestError: It is not written like that.
    """
    if text is None:
        return None
    try:
        low, high = map(float, text.split(":"))
        if not low < high:
            raise ValueError(text)
    except ValueError:
        raise BadRequestError(f"--limits {text!r}", hint="write LOW:HIGH, as 0:100") from None
    return low, high


def reel_of(gif: Path | None, mp4: Path | None, **options: str | None) -> Reel | None:
    """Return where a film goes, if one is wanted.

    Args:
        gif: The GIF.
        mp4: The MP4.
        **options: What is of films alone.

    Raises:
        BadRequestError: One of these is given, and no film is wanted.
    """
    if gif is None and mp4 is None:
        for name, value in options.items():
            if value is not None:
                raise BadRequestError(f"--{name} is of a film, and none is wanted", hint="add --gif FILE")
        return None
    from ..pictures.films import Reel

    return Reel(gif, mp4)


def written(reel: Reel | None) -> AbstractContextManager[None]:
    """Name the file in what goes wrong with it; see `saving`."""
    path = None if reel is None else reel.gif or reel.mp4
    return nullcontext() if path is None else saving(path)


def files_of(reel: Reel | None) -> dict[str, Any]:
    """Return the files of a film, as programs are told of them."""
    if reel is None:
        return {}
    return {name: str(path) for name, path in (("gif", reel.gif), ("mp4", reel.mp4)) if path is not None}
