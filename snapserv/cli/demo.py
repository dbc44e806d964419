"""``demo``: one fire on real terrain, four futures."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from snapserv_client.cli.console import errors, results
from snapserv_client.cli.options import Json, failing
from snapserv_client.cli.output import mebibytes, show, table
from snapserv_client.cli.parameters import Option
from snapserv_client.cli.saving import saving
from snapserv_client.figures import space

if TYPE_CHECKING:
    from snapserv_client import Tree, aio

Array = np.ndarray[Any, Any]

SIMULATION = "snapserv.examples.wildfire:Wildfire"
SNAPSHOT = "before-the-wind-turns"
WIND_M_PER_S = 8.0
M2_PER_HA = 10_000.0


@dataclass(frozen=True)
class Future:
    """One what-if: the inputs of every tick from the snapshot on."""

    name: str
    title: str
    inputs: dict[str, Any]


def futures(rows: int, cols: int) -> list[Future]:
    """Return the four what-ifs: three winds, and the first wind against a firebreak in its way."""
    eastward = {"wind": [WIND_M_PER_S, 0.0]}
    col = cols // 2 + cols // 8
    firebreak = [[rows // 4, col, rows * 3 // 4, col]]
    return [
        Future("west-wind", "west wind", eastward),
        Future("north-wind", "north wind", {"wind": [0.0, -WIND_M_PER_S]}),
        Future("east-wind", "east wind", {"wind": [-WIND_M_PER_S, 0.0]}),
        Future("firebreak", "west wind, firebreak", {**eastward, "firebreaks": firebreak}),
    ]


@dataclass(frozen=True)
class Past:
    """What all futures have in common: the fire at the snapshot."""

    step: int
    state: Array
    cell_m: float


@dataclass
class Outcome:
    """What became of a branch."""

    future: Future
    step: int
    burnt_ha: float
    private_bytes: int
    state: Array


@dataclass(frozen=True)
class Story:
    """All that is told at the end."""

    elevation: Array
    past: Past
    outcomes: list[Outcome]
    tree: Tree
    arena_bytes: int
    backing: str
    snapshot_ms: float
    fork_us: float


def demo(
    rows: Annotated[int, Option(min=64, help="Cells from north to south.")] = 4096,
    cols: Annotated[int, Option(min=64, help="Cells from west to east.")] = 4096,
    before: Annotated[int, Option(min=1, help="Ticks before the snapshot.")] = 400,
    steps: Annotated[int, Option(min=1, help="Ticks of every future.")] = 800,
    out: Annotated[Path, Option(help="Where the picture goes.")] = Path("demo/wildfire.png"),
    web: Annotated[bool, Option("--web", help="Open a page on the four fires as well, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Burn real terrain, snapshot the fire, and let it go on under four different winds at once.

    Examples:
        snapserv demo
        snapserv demo --rows 1024 --cols 1024 --out fire.png
        snapserv demo --web
    """
    began = time.monotonic()
    with failing(as_json=as_json):
        with saving(out):
            out.parent.mkdir(parents=True, exist_ok=True)  # now, rather than after all the work
            if out.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

        def tell(story: Story) -> None:
            if not as_json:
                results.print(_table(story))
                results.print(str(story.tree), highlight=False, markup=False)
            with errors.status("drawing"), saving(out):
                _draw(out, story)
            seconds = round(time.monotonic() - began, 1)
            facts = {**_facts(story), "picture": str(out.absolute()), "seconds": seconds}
            lines = [f"picture: {out.absolute()}", f"done in {seconds} s"]
            lines += [] if web else ["the same four fires in a browser: snapserv demo --web, or make demo WEB=1"]
            show(facts, as_json=as_json, people=lambda: "\n".join(lines))

        asyncio.run(_run(rows, cols, before, steps, tell, web=web))


async def _page(endpoint: str) -> None:
    """Have a page of the server until Ctrl-C."""
    from .beside import page

    with page(":0", endpoint, None), contextlib.suppress(asyncio.CancelledError):
        errors.print("the four fires in a browser, until Ctrl-C:")
        await asyncio.Event().wait()


async def _run(
    rows: int, cols: int, before: int, after: int, tell: Callable[[Story], None], *, web: bool = False
) -> None:
    from snapserv_client import aio, number

    with errors.status(f"setting up {rows} × {cols} cells of real terrain"):
        server = await aio.local(SIMULATION, rows=rows, cols=cols)
    async with server:
        spec = await server.spec()
        arena = spec.arena
        errors.print(f"arena {space(arena.size_bytes)} of {arena.backing} · setup {spec.setup_s:.1f} s")
        main = await server.branch("main")
        with _bars() as bars:
            bar = bars.add_task("before", total=before)
            burnt = await main.step(
                before, wind=[2.0, 1.0], progress=lambda done, _: bars.update(bar, completed=done)
            )
            bars.update(bar, completed=before)
        clock = time.perf_counter()
        snapshot = await main.snapshot(SNAPSHOT)
        snapshot_ms = (time.perf_counter() - clock) * 1000
        plans = futures(rows, cols)
        branches = await snapshot.branch(names=[plan.name for plan in plans])
        outcomes = await _go_on(branches, plans, after)
        tree = await server.tree(sizes=True)
        sizes = {node.name: node.private_bytes or 0 for node in tree.nodes}
        for outcome in outcomes:
            outcome.private_bytes = sizes[outcome.future.name]
        elevation = await main.read("elevation")
        cell_ha = number(burnt.outputs["burnt_ha"]) / int(await main.read("burnt_cells"))
        past = Past(before, await snapshot.read("state"), math.sqrt(cell_ha * M2_PER_HA))
        story = Story(
            elevation, past, outcomes, tree, arena.size_bytes, arena.backing, snapshot_ms, snapshot.fork_us or 0.0
        )
        tell(story)
        if web:
            await _page(server.endpoint)


async def _go_on(branches: list[aio.Branch], plans: list[Future], ticks: int) -> list[Outcome]:
    """Step all branches at once, each with a bar of its own."""
    from snapserv_client import number

    with _bars() as bars:

        async def go_on(branch: aio.Branch, plan: Future) -> Outcome:
            bar = bars.add_task(plan.title, total=ticks)
            result = await branch.step(
                ticks, inputs=plan.inputs, progress=lambda done, _: bars.update(bar, completed=done)
            )
            bars.update(bar, completed=ticks)
            state = await branch.read("state")
            return Outcome(plan, result.step, number(result.outputs["burnt_ha"]), 0, state)

        return await asyncio.gather(*(go_on(branch, plan) for branch, plan in zip(branches, plans, strict=True)))


def _bars() -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:>22}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} ticks"),
        TimeElapsedColumn(),
        console=errors,
    )


def _facts(story: Story) -> dict[str, Any]:
    return {
        "arena_bytes": story.arena_bytes,
        "backing": story.backing,
        "snapshot_ms": story.snapshot_ms,
        "fork_us": story.fork_us,
        "nodes": story.tree.nodes,
        "futures": [
            {
                "name": outcome.future.name,
                "step": outcome.step,
                "burnt_ha": outcome.burnt_ha,
                "private_bytes": outcome.private_bytes,
                "common": _common(outcome, story),
            }
            for outcome in story.outcomes
        ],
    }


def _common(outcome: Outcome, story: Story) -> float:
    """Return the share of the arena that a branch still has in common with the base image."""
    return 1 - outcome.private_bytes / story.arena_bytes


def _table(story: Story) -> Any:
    taken = f"the snapshot was taken in {story.snapshot_ms:.2f} ms"
    rows = table("future", ">step", ">burnt ha", ">private MiB", ">still common", title=taken)
    for outcome in story.outcomes:
        rows.add_row(
            outcome.future.title,
            f"{outcome.step:,}",
            f"{outcome.burnt_ha:,.0f}",
            mebibytes(outcome.private_bytes),
            f"{_common(outcome, story):.1%}",
        )
    return rows


def _draw(out: Path, story: Story) -> None:
    from .fires import draw_fires

    past, outcomes = story.past, story.outcomes
    titled = {outcome.future.title: outcome for outcome in outcomes}
    draw_fires(
        out,
        story.elevation,
        {title: each.state for title, each in titled.items()},
        {title: f"{each.burnt_ha:,.0f} ha burnt · {space(each.private_bytes)}" for title, each in titled.items()},
        title=f"One fire, four futures: {outcomes[0].step - past.step:,} ticks after the snapshot at {past.step:,}",
        before=past.state,
        winds={title: each.future.inputs["wind"] for title, each in titled.items()},
        cell_m=past.cell_m,
    )
