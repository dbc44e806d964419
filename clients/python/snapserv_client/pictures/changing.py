"""Films of nodes: of a branch that steps or goes back, of its past, of the children of an expansion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import msgspec
import numpy as np

from ..errors import BadRequestError
from ..expansion import Play
from ..plain import InputValues
from ..protocol import NodeInfo, RewindResult, Series, StepResult
from ..watching import Until, Watched
from .colours import node_colour
from .expanding import Children
from .facts import server_of
from .films import Reel
from .maps import Drawn
from .scales import Limits, Scale
from .sheets import Array
from .tiles import Tiles
from .views import View

if TYPE_CHECKING:
    from ..connection import Progress
    from ..expansion import Outcomes
    from ..sync import Branch
    from .facts import Node

TICKS_S, MOMENTS_S = 0.1, 0.6
"""For how long a frame is seen of a run, and of moments that lie further apart."""
DOTS_PER_INCH = 100


@dataclass
class Takes:
    """What has been seen so far: for each frame what its tiles show, and what stands above them."""

    drawn: Drawn
    arrays: list[Sequence[Array]] = field(default_factory=list)
    titles: list[Sequence[str]] = field(default_factory=list)
    headlines: list[str] = field(default_factory=list)
    colours: list[Sequence[str]] = field(default_factory=list)

    def add(
        self, arrays: Sequence[Array], titles: Sequence[str], headline: str = "", colours: Sequence[str] = ()
    ) -> None:
        """Add a frame."""
        self.arrays.append(arrays)
        self.titles.append(titles)
        self.headlines.append(headline)
        self.colours.append(colours)

    def develop(self, reel: Reel, limits: Limits | None, colours: str | None) -> None:
        """Write the film: all frames between the same limits."""
        whole = [array for frame in self.arrays for array in frame]
        if any(array.shape != whole[0].shape for array in whole):
            raise BadRequestError(f"{self.drawn.name} changes its shape, and a film does not")
        scale = Scale.of(self.drawn.name, whole, limits, colours)
        last = len(self.arrays) - 1
        widest = max(range(len(self.titles)), key=lambda number: max(map(len, self.titles[number])))
        tiles = Tiles(
            self.drawn, self.arrays[last], self.titles[widest], scale, colours=self.colours[widest],
            headline=self.headlines[last], dpi=DOTS_PER_INCH, dots=640,
        )  # fmt: skip
        reel.write(
            len(self.arrays),
            lambda number: tiles.show(
                self.arrays[number], self.titles[number], self.headlines[number], self.colours[number]
            ),
        )


def film_step(
    path: Path | str | Reel,
    branch: Branch,
    ticks: int,
    *,
    every: int = 1,
    of: str | None = None,
    limits: Limits | None = None,
    colours: str | None = None,
    inputs: InputValues | None = None,
    timeout_s: float | None = None,
    record: Watched | Iterable[Watched] = (),
    until: Until | None = None,
    snapshot: str | None = None,
    progress: Progress | None = None,
) -> StepResult:
    """Run ticks, and write a film of them: the branch as it is, then at each multiple of ``every`` and at the end.

    It is several requests, one for each frame: what fails has done what came before it.

    Args:
        path: The film, whose name ends in ``.gif`` or ``.mp4``.
        branch: It steps.
        ticks: How many ticks.
        every: A frame at each step that is a multiple of this; for ``record`` likewise.
        of: A field, with a region behind it where it has more than two dimensions, as ``"cube[3,:,:]"``; by default
            the frames that the simulation renders, where it does, and else its first field of two dimensions that
            changes.
        limits: The numbers of the first and the last colour; by default the least and the greatest that there is.
        colours: A colour map of matplotlib's, rather than the field's own.
        inputs: The same for all ticks.
        timeout_s: As for `Branch.step`, of each request.
        record: As for `Branch.step`.
        until: Likewise.
        snapshot: Likewise.
        progress: Called with ticks done and wanted.

    Returns:
        What the last tick put out, and of all of them what was recorded and how long they took.

    Raises:
        BadRequestError: There is nothing to draw, or the film would be too long.
        UnsupportedError: matplotlib or ffmpeg is not installed.
    """
    reel, here = Reel.of(path, TICKS_S), branch.info().step
    if every < 1 or ticks < 1:
        raise BadRequestError(f"a film of {ticks} ticks, every {every}", hint="1 is the least of both")
    parts = list(_parts(here, ticks, every))
    reel.check(1 + len(parts))
    view = View(branch, of)
    done: list[StepResult] = []
    seen: list[tuple[int, Array]] = []
    for part in parts:
        try:
            result = branch.step(
                part, timeout_s=timeout_s, inputs=inputs, record=record, every=every, until=until, snapshot=snapshot
            )
        except BadRequestError as error:
            if done and error.details.get("finished"):
                break
            raise
        if not done:
            view.settle(branch)
            seen.append((here, view.first))
        done.append(result)
        seen.append((result.step, view.of(branch)))
        if progress is not None:
            progress(sum(each.ticks for each in done), ticks)
        if result.stopped or result.ticks < part:
            break
    takes = Takes(view.drawn)
    for step, array in seen:
        takes.add([array], [f"{branch.name} · {view.name} · step {step:,}"], colours=[node_colour(branch.id)])
    takes.develop(reel, limits, colours)
    return _together(done)


def film_rewind(
    path: Path | str | Reel,
    branch: Branch,
    *,
    of: str | None = None,
    limits: Limits | None = None,
    colours: str | None = None,
) -> RewindResult:
    """Go back to the mark, and write a film of the way: the branch as it was, snapshots since, the mark.

    Args:
        path: The film, as for `film_step`.
        branch: It has a mark.
        of: As for `film_step`.
        limits: Likewise.
        colours: Likewise.

    Raises:
        BadRequestError: There is no mark, or nothing to draw.
        UnsupportedError: matplotlib or ffmpeg is not installed.
    """
    reel, view = Reel.of(path, MOMENTS_S), View(branch, of)
    reel.check(2)
    *past, now = branch.log()
    gone = branch.rewind()
    view.settle(branch)
    between = [each for each in past if gone.step < each.step < now.step and each.state != "dead"]
    takes = Takes(view.drawn)
    _take(takes, view, now, view.first)
    for info in reversed(_few(between)):
        _take(takes, view, info, view.of(server_of(branch).node(info.id)))
    _take(takes, view, branch.last, view.of(branch))
    takes.develop(reel, limits, colours)
    return gone


def film_past(
    path: Path | str | Reel,
    node: Node,
    *,
    of: str | None = None,
    limits: Limits | None = None,
    colours: str | None = None,
) -> list[NodeInfo]:
    """Write a film of a node's past: its snapshots from the root on, and itself; return them.

    Args:
        path: The film, as for `film_step`.
        node: Whose past.
        of: As for `film_step`.
        limits: Likewise.
        colours: Likewise.

    Raises:
        BadRequestError: There is nothing to draw.
        UnsupportedError: matplotlib or ffmpeg is not installed.
    """
    reel, server = Reel.of(path, MOMENTS_S), server_of(node)
    reel.check(1)
    found = _few([each for each in node.log() if each.state != "dead"])
    view = View(server.node(found[0].id), of)
    view.settle(node)
    takes = Takes(view.drawn)
    for info in found:
        _take(takes, view, info, view.of(server.node(info.id)))
    takes.develop(reel, limits, colours)
    return found


def film_expansion(
    path: Path | str | Reel,
    node: Node,
    inputs: Sequence[InputValues | Sequence[InputValues]],
    *,
    every: int = 1,
    of: str | None = None,
    limits: Limits | None = None,
    colours: str | None = None,
    **playing: Unpack[Play],
) -> Outcomes[None]:
    """Try every input from here, and write a film of the children side by side, a frame every so many ticks.

    Children play one after the other, are kept as snapshots from frame to frame, and dropped at the end.

    Args:
        path: The film, as for `film_step`.
        node: Where they begin.
        inputs: As for `Node.expand`.
        every: A frame each time that so many ticks were played, and at the end.
        of: As for `film_step`.
        limits: Likewise.
        colours: Likewise.
        **playing: As for `Node.expand`.

    Raises:
        BadRequestError: There is nothing to draw, or it is too much.
        UnsupportedError: matplotlib or ffmpeg is not installed.
    """
    if every < 1:
        raise BadRequestError(f"a film with a frame every {every} ticks", hint="1 is the least")
    reel, view = Reel.of(path, TICKS_S), View(node, of)
    with Children(node, inputs, playing) as children:
        reel.check(1 + -(-children.ticks // every))
        titles = children.titles()
        children.play(every)
        view.settle(next((child for child in children.nodes if child is not None), node))
        takes, arrays = Takes(view.drawn), [view.first] * len(inputs)
        takes.add(arrays, titles, f"{node.name} · {view.name} · at first")
        going = True
        while going:
            arrays = [
                before if child is None else view.of(child)
                for before, child in zip(arrays, children.nodes, strict=True)
            ]
            headline = f"{node.name} · {view.name} · after {children.played:,} ticks"
            takes.add(arrays, children.titles(), headline)
            going = children.play(every)
        outcomes = children.outcomes()
    takes.develop(reel, limits, colours)
    return outcomes


def _take(takes: Takes, view: View, info: NodeInfo, array: Array) -> None:
    takes.add([array], [f"{info.name} · {view.name} · step {info.step:,}"], colours=[node_colour(info.id)])


def _few(moments: list[NodeInfo], most: int = 200) -> list[NodeInfo]:
    """Return moments, evenly fewer where they are many, the first and the last among them."""
    if len(moments) <= most:
        return moments
    return [moments[round(each)] for each in np.linspace(0, len(moments) - 1, most)]


def _parts(here: int, ticks: int, every: int) -> Iterable[int]:
    """Yield how many ticks lie between frames: these are at multiples, whatever step the branch is at."""
    end = here + ticks
    while here < end:
        there = min(end, (here // every + 1) * every)
        yield there - here
        here = there


def _together(done: list[StepResult]) -> StepResult:
    """Return several steps as one."""
    series = [each.series for each in done if each.series is not None]
    whole = None
    if series:
        steps = np.concatenate([each.steps for each in series])
        columns = {name: np.concatenate([each.columns[name] for each in series]) for name in series[0].columns}
        whole = Series(series[-1].every, steps, columns)
    ticks, elapsed_us = sum(each.ticks for each in done), sum(each.elapsed_us for each in done)
    return msgspec.structs.replace(done[-1], ticks=ticks, elapsed_us=elapsed_us, series=whole)
