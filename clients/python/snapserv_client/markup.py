"""Tables as notebooks show them: plain HTML without scripts, all text escaped, legible wherever the page ends up.

Colours are those of the notebook's theme where there is one (Jupyter's variables, then VS Code's). In an exported
page there is none: then the reader's preference for light or dark decides. A table brings its own background, so
that its text never stands on the colour of a page that decided otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .figures import said
from .plain import Value

MOST_WHOLE = 1e15
"""Numbers from here on are written by their magnitude."""
MOST_EXACT = 12
"""A value of so many letters is written out; of a longer one, numbers have the digits that say something."""
MOST_ROWS = 500
"""So many rows are shown, as notebooks keep them all."""

STYLE = """
.snapserv{--snap-ink:#1f2328;--snap-soft:#59636e;--snap-paper:#fff;--snap-band:#f6f8fa;--snap-line:#d1d9e0;
--snap-good:#1a7f37;--snap-bad:#b3261e}
@media (prefers-color-scheme:dark){.snapserv{--snap-ink:#e6edf3;--snap-soft:#9da7b3;--snap-paper:#0d1117;
--snap-band:#161b22;--snap-line:#3d444d;--snap-good:#4ac26b;--snap-bad:#ff8a80}}
[data-jp-theme-light=true] .snapserv,.vscode-light .snapserv{--snap-good:#1a7f37;--snap-bad:#b3261e}
[data-jp-theme-light=false] .snapserv,.vscode-dark .snapserv{--snap-good:#4ac26b;--snap-bad:#ff8a80}
.snapserv{display:inline-block;max-width:100%;overflow-x:auto;box-sizing:border-box;padding:.4em .6em;
border-radius:4px;color:var(--jp-content-font-color1,var(--vscode-foreground,var(--snap-ink)));
background:var(--jp-layout-color0,var(--vscode-editor-background,var(--snap-paper)));
font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif)}
.snapserv table{border-collapse:collapse;margin:.2em 0;font-size:inherit;color:inherit;background:none;border:none}
.snapserv caption{text-align:left;font-weight:600;padding:.2em 0;color:inherit;caption-side:top;white-space:nowrap}
.snapserv p{margin:.2em 0;color:inherit}
.snapserv th,.snapserv td{padding:.2em .7em;text-align:left;vertical-align:top;white-space:nowrap;max-width:none;
border:none;border-bottom:1px solid var(--jp-border-color2,var(--vscode-panel-border,var(--snap-line)));
color:inherit;background:none}
.snapserv th{font-weight:600;
color:var(--jp-content-font-color2,var(--vscode-descriptionForeground,var(--snap-soft)))}
.snapserv tbody tr:nth-child(even)>*{
background:var(--jp-rendermime-table-row-background,var(--vscode-textCodeBlock-background,var(--snap-band)))}
.snapserv .number{text-align:right;font-variant-numeric:tabular-nums}
.snapserv .code{font-family:var(--jp-code-font-family,ui-monospace,monospace);white-space:pre}
.snapserv .stem{padding-top:0;padding-bottom:0;line-height:1.85}
.snapserv .soft{color:var(--jp-content-font-color2,var(--vscode-descriptionForeground,var(--snap-soft)))}
.snapserv .good{color:var(--snap-good)}
.snapserv .bad{color:var(--snap-bad);font-weight:600}
""".replace("\n", "").replace(".snapserv ", ".snapserv.snapserv.snapserv ")
"""Named thrice, so that it outweighs what notebooks say of all tables: that text stands to the right."""


class Cell(str):
    """The text of a cell, and the classes of its look: number, code, stem, soft, good, bad."""

    __slots__ = ("look",)
    look: str

    def __new__(cls, text: str, look: str = "") -> Cell:
        """Return the text with its look."""
        made = super().__new__(cls, text)
        made.look = look
        return made


def numeral(value: float | None, unit: str = "", *, digits: int = 6) -> Cell:
    """Return a number as a cell: integers whole, others to so many digits; empty where there is none."""
    if value is None:
        return Cell("")
    whole = isinstance(value, int) or 10**digits / 10 <= abs(value) < MOST_WHOLE
    text = f"{value:,.0f}" if whole else f"{value:.{digits}g}"
    return Cell(f"{text}{unit}", "number")


def value_cell(value: Value) -> Cell:
    """Return what came back as a cell."""
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        return numeral(value)
    return Cell(brief(value), "" if isinstance(value, str) else "code")


def brief(value: Value) -> str:
    """Return a value in a few characters."""
    if not isinstance(value, bool | int | float | str | bytes | list | dict | None):  # an array
        if value.size > 4:
            return f"<{value.dtype} {list(value.shape)}>"
        value = value.tolist()
    text = str(value)
    if len(text) > MOST_EXACT:
        text = said(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def page(*parts: str) -> str:
    """Return parts that are HTML already as what a notebook shows."""
    return f'<div class="snapserv"><style>{STYLE}</style>{"".join(parts)}</div>'


def paragraph(text: str, look: str = "") -> str:
    """Return a sentence."""
    return f"<p{_look(look)}>{_escaped(text)}</p>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return a table, of `MOST_ROWS` rows at most. A column of numbers stands to the right."""
    every = list(rows)
    shown = every[:MOST_ROWS]
    looks = [getattr(cell, "look", "") if "number" in getattr(cell, "look", "") else "" for cell in _firsts(shown)]
    looks += [""] * (len(heads) - len(looks))
    above = f"<caption>{_escaped(caption)}</caption>" if caption else ""
    names = "".join(
        f'<th scope="col"{_look(look)}>{_escaped(head)}</th>' for head, look in zip(heads, looks, strict=True)
    )
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in shown)
    rest = paragraph(f"… and {len(every) - len(shown):,} more", "soft") if len(every) > len(shown) else ""
    return f"<table>{above}<thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>{rest}"


def facts(rows: Iterable[tuple[str, str]], caption: str = "") -> str:
    """Return a table of two columns: what, and how it is."""
    lines = "".join(f'<tr><th scope="row">{_escaped(what)}</th>{_cell(how)}</tr>' for what, how in rows)
    above = f"<caption>{_escaped(caption)}</caption>" if caption else ""
    return f"<table>{above}<tbody>{lines}</tbody></table>"


def _firsts(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return for each column its first cell that says something."""
    return [next((cell for cell in column if cell), "") for column in zip(*rows, strict=True)]


def _cell(text: str) -> str:
    return f"<td{_look(getattr(text, 'look', ''))}>{_escaped(text)}</td>"


def _look(look: str) -> str:
    return f' class="{look}"' if look else ""


def _escaped(text: str) -> str:
    from html import escape  # with a table of all entities, which only notebooks need

    return escape(str(text))
