"""What of all that branches lasts as well: the column of docs/what-branches.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from snapserv_client.errors import NotPortableError

from ..conftest import ROOT, ServerProcess

HOLDS = "tests.simulations.holding:Holds"
LASTS = ("map", "listing", "many_files", "array", "value", "nameless", "temporary", "removed", "mapped_file")
REFUSED = {
    "segment": "children",
    "tasks": "open_kernel_object",
    "nothing": "open_kernel_object",
}


@pytest.mark.parametrize("what", [*LASTS, *REFUSED])
def test_what_a_process_holds_lasts_or_is_named(
    serve: Callable[..., ServerProcess], what: str, tmp_path: Path
) -> None:
    params = {"what": what, "folder": str(tmp_path / "folder")}
    (tmp_path / "folder").mkdir()
    branched = ("--branch-dir", params["folder"]) if what == "mapped_file" else ()
    options = ("--store", str(tmp_path / "store"), "--durable", "none", *branched)
    with serve(HOLDS, params=params, options=options).connect() as client:
        main = client.branch("main")
        main.step(2, by=3)
        taken = main.snapshot("s")
        if what in LASTS:
            assert [each.error for each in taken.save().saved] == [""]
            return
        with pytest.raises(NotPortableError) as refused:
            taken.save()
        assert REFUSED[what] in {each["why"] for each in refused.value.details["held"]}
        assert not taken.info().durable
        taken.branch(name="goes-on").step(1)


def test_the_page_says_of_each_what_happens() -> None:
    page = (ROOT / "docs" / "what-branches.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line.count("|") > 4
    ]
    said = {name: row[2] for row in rows for name in row[-1].replace("`", " ").split() if len(row) == 4}
    assert {what: f"`{why}`" in said[what] for what, why in REFUSED.items()} == dict.fromkeys(REFUSED, True)
    assert {what: "yes" in said[what] for what in LASTS} == dict.fromkeys(LASTS, True)
