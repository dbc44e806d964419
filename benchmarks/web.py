"""The page at ten thousand nodes: how soon it is there, what a click takes, and what the server feels of it.

A browser, Debian's chromium, is driven by Playwright. A click is timed in the browser, from the event to the frame
after what it was to change has changed, over nodes that lie far apart. The server's requests are timed with a
browser at the page and without, turn about.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from snapserv_client import Server, local

from snapserv.machine.limits import available_bytes

from .scale import NODE_BYTES, SPARED_BYTES
from .tables import Check

if TYPE_CHECKING:
    from playwright.sync_api import Page

FORKS = 7
"""Of every so many snapshots of main one is branched, so that there is more to draw than one straight line."""
TWIGS = 3
CLICKED = """
async ([row, title]) => {
  const before = title.textContent, began = performance.now();
  row.click();
  while (title.textContent === before) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}
"""
PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"


def measure(nodes: int, rounds: int, console: Console) -> dict[str, Any]:
    """Return times in milliseconds.

    Args:
        nodes: How many nodes there are, as far as there is memory for them.
        rounds: How often each thing is timed.
        console: Where to say how far it is.
    """
    from playwright.sync_api import sync_playwright

    nodes = min(nodes, max(100, int((available_bytes() - SPARED_BYTES) / NODE_BYTES)))
    with local("benchmarks.simulations:Pages", pages=64) as server:
        console.print(f"{nodes:,} nodes", style="dim")
        _grow(server, nodes)
        with _page_of(server.endpoint) as address, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=_chromium(), args=["--no-sandbox", "--disable-gpu"])
            opened = [_opened(browser.new_context().new_page(), address) for _ in range(max(3, rounds // 10))]
            page = browser.new_context().new_page()
            _opened(page, address)
            clicks = _clicks(page, rounds)
            latency = _latency(server, page, address, rounds)
            browser.close()
        there = server.stats().nodes
    return {
        "nodes": there,
        "rows": [
            {"what": "first paint", **_percentiles([first for first, _ in opened])},
            {"what": "the tree is there", **_percentiles([tree for _, tree in opened])},
            {"what": "a click on a node, until it is shown", **_percentiles(clicks)},
            *({"what": f"step, {how}", **_percentiles(times)} for how, times in latency.items()),
        ],
        "ratio": float(np.median(latency["with a page"]) / np.median(latency["without"])),
    }


def goals(measured: dict[str, Any]) -> list[Check]:
    """Return what should come of it."""
    by_what = {row["what"]: row["p50"] for row in measured["rows"]}
    nodes = f"{measured['nodes']:,} nodes"
    return [
        (f"the page, {nodes}: until the tree is there, ms", by_what["the tree is there"], "≤", 2000.0),
        (f"a click on a node, {nodes}, ms", by_what["a click on a node, until it is shown"], "≤", 300.0),
        (f"step with a browser at the page over one without, {nodes}", measured["ratio"], "≤", 1.15),
    ]


def _grow(server: Server, nodes: int) -> None:
    main = server.branch("main")
    number = 0
    while (missing := nodes - server.stats().nodes) > 0:
        main.step(dirty=1)
        snapshot = main.snapshot()
        number += 1
        if number % FORKS == 0 and missing > TWIGS:
            snapshot.branch(TWIGS)


@contextmanager
def _page_of(endpoint: str) -> Iterator[str]:
    command = [sys.executable, "-m", "snapserv", "web", "-e", endpoint, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["page"]
        finally:
            process.terminate()


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise SystemExit("no chromium is installed")
    return found


def _opened(page: Page, address: str) -> tuple[float, float]:
    """Open the page as for the first time; return when something was painted, and when the tree was there."""
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(".tree-row")
    there = (time.perf_counter() - began) * 1000
    page.wait_for_function(PAINTED)
    return page.evaluate(PAINTED), there


def _clicks(page: Page, rounds: int) -> list[float]:
    """Click on nodes here and there; return how long each took until it was shown."""
    title = page.locator(".title").element_handle()
    taken = []
    for number in range(rounds):
        page.locator(".tree").evaluate("(tree, at) => tree.scrollTo(0, tree.scrollHeight * at)", number / rounds)
        page.wait_for_timeout(150)
        rows = page.locator(".tree-row:not(.fold):not(.selected)").element_handles()
        taken.append(page.evaluate(CLICKED, [rows[len(rows) // 2], title]))
    return taken


def _latency(server: Server, page: Page, address: str, rounds: int) -> dict[str, list[float]]:
    """Time steps with a browser at the page and without, turn about."""
    main = server.branch("main")
    taken: dict[str, list[float]] = {"with a page": [], "without": []}
    for _ in range(4):
        for how, times in taken.items():
            page.goto(address if how == "with a page" else "about:blank")
            page.wait_for_timeout(1500)
            for _ in range(rounds):
                began = time.perf_counter()
                main.step(dirty=0)
                times.append((time.perf_counter() - began) * 1000)
                time.sleep(0.005)
    return taken


def _percentiles(times: list[float]) -> dict[str, float]:
    return {f"p{part}": float(np.percentile(times, part)) for part in (10, 50, 90)}
