"""The page in a real browser: it shows what there is, does what its buttons say, and tells what went wrong."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from snapserv_client import Server

from ..conftest import END_WITHIN_S, ServerProcess, assert_nothing_left, assert_settles, start_server
from .conftest import WILDFIRE, Open, page_of

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def names(page: Page) -> list[str]:
    return page.locator(".tree-row .name").all_inner_texts()


def choose(page: Page, name: str) -> None:
    page.locator(".tree-row .name", has_text=re.compile(f"^{re.escape(name)}$")).click()
    expect(page.locator(".title")).to_have_text(name)


def turn_to(page: Page, name: str) -> None:
    page.locator(".head .tabs button", has_text=name).click()
    expect(page.locator(".head .tabs button[aria-selected=true]")).to_have_text(name)


def press(page: Page, name: str) -> None:
    page.locator(".actions .act", has_text=re.compile(f"^{name}")).click()


def outcome(page: Page) -> Locator:
    return page.locator(".outcome[role=status]")


def widths(page: Page, selector: str) -> list[int]:
    """Return how wide pictures are, once they are there."""
    pictures = page.locator(selector)
    expect(pictures.first).to_have_js_property("complete", True)
    page.wait_for_function("(s) => [...document.querySelectorAll(s)].every((p) => p.naturalWidth)", arg=selector)
    found: list[int] = pictures.evaluate_all("(all) => all.map((picture) => picture.naturalWidth)")
    return found


@pytest.fixture
def client(fires: ServerProcess) -> Server:
    with fires.connect() as found:
        yield found


def test_it_shows_the_tree_and_a_map_of_the_node_that_is_chosen(look: Open, address: str) -> None:
    page = look(address)
    assert names(page) == ["root", "before", "west-wind", "north-wind", "east-wind", "main"]
    expect(page.locator(".title")).to_have_text("main")
    choose(page, "west-wind")
    expect(page.locator(".legend").first).to_contain_text("burnt")
    assert widths(page, ".map img") == [128]
    page.locator(".pick button", has_text="elevation").click()
    expect(page.locator(".legend .ramp").first).to_be_visible()
    page.locator(".map img").hover(position={"x": 40, "y": 40})
    expect(page.locator(".pointed").first).to_contain_text("[")


def test_a_branch_is_stepped_with_inputs_until_something_holds(look: Open, address: str, client: Server) -> None:
    client.node("before").branch(name="typed")
    page = look(address)
    choose(page, "typed")
    page.get_by_label("wind 0").fill("8")
    page.get_by_label("ticks").fill("7")
    page.locator(".act.first", has_text="Step").click()
    expect(outcome(page)).to_contain_text("typed · step 27 · 7 ticks in")
    expect(page.locator(".outputs")).to_contain_text("burnt_ha")
    step = client.node("typed").actions()[-1]
    assert step.inputs == {"wind": [8.0, 0.0]}
    page.get_by_label("until").fill("tick >= 30")
    page.get_by_label("ticks").fill("500")
    page.get_by_label("ticks").press("Enter")
    expect(outcome(page)).to_contain_text("typed · step 30 · 3 ticks")
    expect(outcome(page)).to_contain_text("tick >= 30 holds")
    client.node("typed").drop()
    expect(page.locator(".empty")).to_have_text("The node is gone.")


def test_an_error_is_told_as_the_command_line_tells_it(look: Open, address: str) -> None:
    page = look(address)
    page.get_by_label("until").fill("what is this")
    page.locator(".act.first", has_text="Step").click()
    expect(outcome(page).locator("code")).to_have_text("bad_request")
    expect(outcome(page)).to_contain_text("'what is this' is no condition")
    expect(outcome(page).locator(".hint")).to_contain_text("as in: served >= 500")
    page.get_by_label("until").fill("")
    page.get_by_label("wind 1").fill("fast")
    page.locator(".act.first", has_text="Step").click()
    expect(outcome(page)).to_contain_text("wind: 'fast' is not a number")


def test_snapshots_and_branches_are_made_and_dropped(look: Open, address: str, client: Server) -> None:
    page = look(address)
    choose(page, "east-wind")
    press(page, "Snapshot")
    page.locator(".dialog").get_by_label("name").fill("kept")
    page.locator(".dialog").get_by_label("message").fill("as it was")
    page.locator(".dialog .act.first").click()
    expect(outcome(page)).to_contain_text("kept · step 50")
    choose(page, "kept")
    press(page, "Branch")
    page.locator(".dialog").get_by_label("names").fill("left right")
    page.locator(".dialog .act.first").click()
    expect(page.locator(".title")).to_have_text("left")
    expect(page.locator(".tree-row .name", has_text="right")).to_be_visible()
    assert client.branch("right").last.step == 50
    assert client.node("east-wind").last.parent == client.node("kept").id
    for name in ("left", "right"):
        choose(page, name)
        press(page, "More")
        page.locator(".menu button", has_text="Drop").click()
        page.locator(".dialog .act.danger").click()
        expect(page.locator(".tree-row .name", has_text=name)).to_have_count(0)
    client.node("kept").drop()


def test_two_futures_are_compared(look: Open, address: str) -> None:
    page = look(address)
    choose(page, "west-wind")
    page.locator(".tree-row .name", has_text="east-wind").click(modifiers=["Shift"])
    expect(page.locator(".tree-row .held")).to_be_visible()
    page.keyboard.press("c")
    expect(page.locator(".figure h2").nth(1)).to_contain_text("east-wind · step 50")
    expect(page.locator(".figure h2").nth(2)).to_have_text("where they differ")
    assert widths(page, ".figure .map img") == [128, 128, 128]
    row = page.locator("table.list tr", has_text="state")
    assert int(row.locator("td").nth(1).inner_text().replace(",", "")) > 0


def test_records_of_two_nodes_are_drawn_over_each_other(look: Open, address: str, client: Server) -> None:
    page = look(address)
    choose(page, "west-wind")
    turn_to(page, "Curves")
    page.get_by_label("another node").select_option(str(client.node("north-wind").id))
    rows = page.locator("table.list tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("west-wind")
    expect(rows.nth(1)).to_contain_text("50")
    expect(page.locator(".chart canvas").last).to_be_visible()
    assert page.locator(".chart canvas").last.evaluate("(canvas) => canvas.clientWidth") > 400


def test_a_slider_goes_through_the_past_and_back_to_a_step_of_it(look: Open, address: str, client: Server) -> None:
    client.node("before").branch(name="traveller").step(10)
    page = look(address)
    choose(page, "traveller")
    slider = page.get_by_label("step", exact=True)
    expect(slider).to_have_js_property("max", "30")
    slider.fill("23")
    expect(page.locator(".travel")).to_contain_text("step 23 · looking at before, step 20")
    page.get_by_role("button", name="Go back to step 23").click()
    expect(outcome(page)).to_contain_text("traveller · step 23 · what it was is")
    assert client.node("traveller").last.step == 23
    client.node("traveller").drop()


def test_pages_and_all_that_there_is_to_know(look: Open, address: str) -> None:
    page = look(address)
    choose(page, "west-wind")
    turn_to(page, "Pages")
    expect(page.locator(".strip").first).to_be_visible()
    expect(page.locator("table.list")).to_contain_text("MiB not base")
    turn_to(page, "About")
    expect(page.locator(".body")).to_contain_text("{wind: [8, 0]}")
    page.locator(".link", has_text="before").click()
    expect(page.locator(".title")).to_have_text("before")
    turn_to(page, "Now")
    expect(page.locator(".body")).to_contain_text("the wind is about to turn")


def test_the_activity_of_the_server(look: Open, address: str, client: Server) -> None:
    page = look(address)
    page.locator(".bar .tabs button", has_text="Activity").click()
    expect(page.locator(".activity table.list").first).to_contain_text("stats")
    client.branch("main").snapshot("seen").drop()
    expect(page.locator(".log")).to_contain_text("seen")
    expect(page.locator(".big").first).to_have_text(re.compile(r"\d"))


def test_the_keyboard_is_enough(look: Open, address: str) -> None:
    page = look(address)
    there = len(names(page))
    page.locator("body").press("j")
    page.locator(".tree").focus()
    page.keyboard.press("Home")
    expect(page.locator(".title")).to_have_text("root")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    expect(page.locator(".title")).to_have_text("west-wind")
    page.keyboard.press("?")
    expect(page.locator(".dialog .keys")).to_contain_text("take a snapshot")
    page.keyboard.press("Escape")
    expect(page.locator(".dialog")).to_have_count(0)
    page.keyboard.press("2")
    expect(page.locator(".head .tabs button[aria-selected=true]")).to_have_text("Curves")
    page.keyboard.press("/")
    page.keyboard.type("north")
    expect(page.locator(".tree-row")).to_have_count(1)
    expect(page.locator(".count")).to_have_text(f"1 of {there}")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator(".title")).to_have_text("north-wind")
    page.keyboard.press("n")
    expect(page.locator(".dialog h2")).to_have_text("Snapshot of north-wind")
    expect(page.locator(".dialog .field").first).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_has_the_tree_or_a_node(look: Open, address: str, scheme: str) -> None:
    page = look(address, width=390, height=844, scheme=scheme)
    expect(page.locator(".right")).to_be_hidden()
    page.locator(".tree-row .name", has_text="west-wind").click()
    expect(page.locator(".left")).to_be_hidden()
    expect(page.locator(".map img")).to_be_visible()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('body--dark')") is (scheme == "dark")
    page.get_by_role("button", name="‹ tree").click()
    expect(page.locator(".tree-row").first).to_be_visible()


def test_light_and_dark_are_chosen_and_stay_chosen(look: Open, address: str) -> None:
    page = look(address)
    page.get_by_role("button", name="auto").click()
    page.get_by_role("button", name="light").click()
    expect(page.locator("body.body--dark")).to_be_visible()
    page.reload()
    page.wait_for_selector(".tree-row")
    expect(page.locator("body.body--dark")).to_be_visible()


def test_it_survives_a_server_that_is_killed_and_comes_back(look: Open, tmp_path: Path) -> None:
    first = start_server(tmp_path, WILDFIRE, params={"rows": 64, "cols": 64})
    with page_of(first.endpoint) as address:
        page = look(address)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(END_WITHIN_S)
        expect(page.locator(".banner")).to_contain_text("The server is not there")
        second = start_server(tmp_path, WILDFIRE, params={"rows": 64, "cols": 64})
        expect(page.locator(".banner")).to_be_hidden()
        with second.connect() as client:
            client.branch("main").snapshot("new")
        expect(page.locator(".tree-row .name", has_text="new")).to_be_visible()
        page.locator(".act.first", has_text="Step").click()
        expect(outcome(page)).to_contain_text("main · step 10")
        page.context.close()
    assert second.end() == 0
    assert_settles(lambda: [each.name for each in tmp_path.iterdir() if each.name != "server.log"], [])


def test_an_environment_draws_a_frame_of_a_branch_and_of_a_snapshot(look: Open, tmp_path: Path) -> None:
    server = start_server(tmp_path, "gym:CartPole-v1", params={"kwargs": {"render_mode": "rgb_array"}})
    with page_of(server.endpoint) as address:
        page = look(address)
        page.get_by_label("action").fill("1")
        page.locator(".act.first", has_text="Step").click()
        expect(page.locator(".outputs")).to_contain_text("reward")
        for name in ("main", "root"):
            choose(page, name)
            page.get_by_role("button", name="Draw a frame").click()
            expect(outcome(page)).to_contain_text(f"{name} · step {8 if name == 'main' else 0} drawn")
            assert widths(page, ".map img") == [600]
        expect(page.locator(".tree-row")).to_have_count(2)  # a snapshot is drawn by a branch that then goes
        page.context.close()
    assert server.end() == 0
    assert_nothing_left(server, tmp_path)
