"""A page of a server, in a process of its own, and a real browser at it."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..conftest import END_WITHIN_S, ROOT, START_WITHIN_S, ServerProcess, assert_nothing_left, start_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WILDFIRE = "examples.wildfire:Wildfire"
FOUR_FIRES = {"west-wind": (8.0, 0.0), "north-wind": (0.0, -8.0), "east-wind": (-8.0, 0.0)}

Open = Callable[..., "Page"]


@contextmanager
def page_of(endpoint: str, *options: str) -> Iterator[str]:
    """Start ``snapserv web`` and yield its address; it must end when it is told to."""
    pytest.importorskip("nicegui", reason="the page needs NiceGUI")
    command = [sys.executable, "-m", "snapserv", "web", "-e", endpoint, "--port", "0", "--json", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            readable, _, _ = select.select([process.stdout], [], [], START_WITHIN_S)
            line = process.stdout.readline() if readable else ""
            assert line, process.stderr.read() if process.poll() is not None else "the page did not start"
            yield json.loads(line)["page"]
        finally:
            process.terminate()
            status = process.wait(END_WITHIN_S)
            said = process.stderr.read()
        assert (status, said) == (0, ""), said


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser, one for all tests of a module."""
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def look(browser: Browser) -> Iterator[Open]:
    """Open an address; at the end the browser must have found nothing to complain of."""
    wrong: list[str] = []
    contexts = []

    def open_(address: str, *, width: int = 1280, height: int = 800, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(own(address)) else wrong.append(asked.url))
        page.goto(address)
        page.wait_for_selector(".tree-row")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def own(address: str) -> tuple[str, ...]:
    """Return what addresses of a page's own begin with."""
    host = address.partition("://")[2].partition("/")[0]
    return (f"http://{host}", f"ws://{host}", "data:", "blob:")


@pytest.fixture(scope="module")
def fires(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a fire and what becomes of it under three winds."""
    folder = tmp_path_factory.mktemp("fires")
    server = start_server(folder, WILDFIRE, params={"rows": 128, "cols": 128, "p_h": 0.45})
    with server.connect() as client:
        main = client.branch("main")
        main.record(["burnt_ha", "burning_cells"])
        main.step(20, wind=[2.0, 1.0])
        before = main.snapshot("before", message="the wind is about to turn")
        for name, wind in FOUR_FIRES.items():
            before.branch(name=name).step(30, wind=list(wind))
    yield server
    assert server.end() == 0, server.log.read_text()
    assert_nothing_left(server, folder)


@pytest.fixture(scope="module")
def address(fires: ServerProcess) -> Iterator[str]:
    """The address of a page of the fires."""
    with page_of(fires.endpoint) as found:
        yield found


def keys_of(folder: Path) -> dict[str, str]:
    """Return the environment of a process whose keys are in a folder."""
    return {**os.environ, "XDG_CONFIG_HOME": str(folder)}
