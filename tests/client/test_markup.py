"""What a notebook shows is HTML: whole, escaped, without scripts, and legible on light and on dark pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Best, Server
from snapserv_client.errors import BadRequestError
from snapserv_client.markup import MOST_ROWS, numeral, page, table
from snapserv_client.protocol import StepResult

PLAIN = {"div", "style", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
HOSTILE = "<script>alert(1)</script>&\"'</td>"


class Parsed(HTMLParser):
    """The tables of a page: rows of texts; every tag is closed where it should be, and none runs anything."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.captions: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in PLAIN
        assert {name for name, _ in attributes} <= {"class", "scope"}, "nothing that loads or runs"
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")
        if tag == "caption":
            self.captions.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] == "style":
            assert "url(" not in data
            assert "@import" not in data
            return
        self.text += data + " "
        if self.open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data
        if self.open[-1] == "caption":
            self.captions[-1] += data


def parsed(shown: Any) -> Parsed:
    return Parsed(shown._repr_html_())


def test_a_tree_is_a_table_of_its_nodes(server: Server) -> None:
    main = server.branch("main")
    main.step(1234)
    before = main.snapshot("before")
    before.tag("golden")
    before.pin()
    (head, *rows) = parsed(server.tree()).tables[0]
    assert head == ["node", "step", "state", "tags"]
    assert rows == [
        ["● root", "0", "", ""],
        ["● before", "1,234", "pinned", "golden"],
        ["▶ main", "1,234", "", ""],
    ]
    assert parsed(server.tree(sizes=True)).tables[0][1][4].endswith("MiB")


def test_nodes_and_servers_say_where_they_are(server: Server) -> None:
    main = server.branch("main")
    main.call("echo", 0)
    assert parsed(main).captions == ["▶ Branch main"]
    assert ["server", server.endpoint] in parsed(main).tables[0]
    assert ["trees", "default"] in parsed(server).tables[0]


def test_results_are_tables(server: Server) -> None:
    main = server.branch("main")
    result = main.step(7, drift=2.0)
    shown = parsed(result)
    assert shown.captions == ["step 7 · 7 ticks"]
    assert [row[0] for row in shown.tables[0]] == ["mean", "count", "took"]
    before = main.snapshot()
    outcomes = before.expand([{"drift": each} for each in (1.0, 5.0)], sum=["mean"], keep=Best(1, "mean"))
    head, *rows = parsed(outcomes).tables[0]
    assert head == ["", "step", "mean", "count", "kept as", ""]
    assert [row[0] for row in rows] == ["0", "1"]
    assert outcomes[1].node is not None
    assert [row[4] for row in rows] == ["", outcomes[1].node.name]
    assert parsed(outcomes[0]).tables[0][1][0] == "0"
    diff = parsed(before.diff(main))
    assert diff.tables[0][0] == ["field", "changed", "of", "at most", "on average", "where"]
    assert "the same" in diff.text
    assert parsed(main.actions()).tables[0][1][1:] == ["0", "", "step(7, drift=2.0)"]
    assert "verified" in parsed(main.verify()).text
    counted, verbs = parsed(server.stats()).tables
    assert dict(tuple(row) for row in counted)["dead"] == "0"
    assert "step" in [row[0] for row in verbs]
    assert parsed(main.pages(before)).tables[0][0][:2] == ["field", "node"]


def test_all_that_is_shown_is_escaped() -> None:
    result = StepResult(1, 1, {HOSTILE: HOSTILE, "x": [HOSTILE], "y": {HOSTILE: 1}}, 5)
    assert [HOSTILE, HOSTILE] in parsed(result).tables[0]
    assert Parsed(page(table([HOSTILE], [[HOSTILE]], HOSTILE))).tables == [[[HOSTILE], [HOSTILE]]]


def test_numbers_are_written_for_people() -> None:
    found = [numeral(each, digits=3) for each in (3, 1234567, 3541.7, 0.012345, 12.345, 1e300, None)]
    assert found == ["3", "1,234,567", "3,542", "0.0123", "12.3", "1e+300", ""]


def test_a_large_table_is_cut_and_says_so() -> None:
    shown = Parsed(page(table(["n"], [[str(n)] for n in range(MOST_ROWS + 10)])))
    assert len(shown.tables[0]) == MOST_ROWS + 1
    assert "… and 10 more" in shown.text


def test_an_outcome_is_a_mapping_of_what_was_asked_for(server: Server) -> None:
    before = server.branch("main").snapshot()
    (outcome,) = before.expand([{}], steps=3, read=["position", "count"], sum=["mean"])
    assert isinstance(outcome, Mapping)
    assert sorted(outcome) == ["count", "mean", "position"]
    assert len(outcome) == 3
    assert outcome["count"] == dict(outcome)["count"] == outcome.get("count") == 3
    assert outcome["mean"] == outcome.totals["mean"]
    assert isinstance(outcome["position"], np.ndarray)
    assert "none" not in outcome
    with pytest.raises(KeyError):
        outcome["none"]
    assert {outcome: 1}[outcome] == 1
    good, bad = before.expand([{}, {"drift": "much"}])
    assert [bool(good), bool(bad)] == [True, False]
    assert bad.error is not None
    for ask in (lambda: bad["mean"], lambda: dict(bad), lambda: len(bad), lambda: "mean" in bad):
        with pytest.raises(BadRequestError):
            ask()
    assert "bad_request" in parsed(before.expand([{"drift": "much"}])).text


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium is here")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["#ffffff", "#000000"])
def test_text_stands_out_from_its_ground_in_a_browser(
    server: Server, tmp_path: Path, scheme: str, ground: str
) -> None:
    """A browser measures the contrast of every text against what it stands on, whatever the page behind it is."""
    chromium = browser()
    main = server.branch("main")
    main.step(7)
    shown = (server, main, server.tree(), main.diff(), main.step(), server.stats(), main.verify())
    path = tmp_path / "page.html"
    body = "<br>".join(each._repr_html_() for each in shown)
    style = f"<style>body{{background:{ground}}}{JUPYTERS}</style>"
    page = f"<div class=jp-RenderedHTMLCommon>{body}</div>"
    path.write_text(f"<!doctype html><meta charset=utf-8>{style}{page}{MEASURE}")
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", *dark, f"--user-data-dir={tmp_path}/profile",
         "--virtual-time-budget=2000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=100, check=False, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    found = re.search(r"<output>(.*?)</output>", done.stdout)
    assert found is not None, done.stderr
    measured = json.loads(found[1])
    assert measured["dark"] == (scheme == "dark")
    assert measured["texts"] > 60
    assert measured["least"] >= 4.5, measured
    assert not measured["scripts"]
    assert measured["stems"] == "start", "whatever the notebook says of tables"
    assert measured["numbers"] == "right"


JUPYTERS = ".jp-RenderedHTMLCommon:not(.jp-Markdown) :is(td,th,tr){text-align:right;vertical-align:middle}"
"""What a notebook's own style says of all tables."""
MEASURE = """<output></output><script>
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const lum = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const ground = element => { for (let at = element; at; at = at.parentElement) {
  const found = rgb(getComputedStyle(at).backgroundColor); if (found.length < 4 || found[3] > 0) return found; } };
let least = 99, texts = 0, where = "";
for (const element of document.querySelectorAll(".snapserv :is(th, td, p, caption)")) {
  if (!element.textContent.trim()) continue;
  const [a, b] = [lum(rgb(getComputedStyle(element).color)), lum(ground(element))];
  const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  texts += 1;
  if (contrast < least) { least = contrast; where = element.outerHTML; }
}
document.querySelector("output").textContent = JSON.stringify({least, texts, where: where.replace(/[<>]/g, " "),
  stems: getComputedStyle(document.querySelector(".snapserv .stem")).textAlign.replace("left", "start"),
  numbers: getComputedStyle(document.querySelector(".snapserv .number")).textAlign,
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  scripts: document.querySelectorAll(".snapserv script").length});
</script>"""
