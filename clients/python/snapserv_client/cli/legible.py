"""Text for terminals and files whose encoding is not UTF-8: in ASCII, so that nothing fails and nothing is garbled.

What we draw with has a letter of ASCII of the same width. All else, such as what a simulation says, is escaped as
Python escapes it: then nothing is lost, and no two texts look the same.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TextIO

ERRORS = "snapserv"
"""The name of what codecs do with letters that an encoding has not."""
LETTERS = {
    "·": "-", "→": ">", "●": "*", "▶": ">", "✓": "+", "✗": "x", "○": "o", "▒": "%", "█": "#", "⋯": "~", "…": "~",
    "×": "x", "µ": "u", "μ": "u", "−": "-", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"',
    "├": "|", "└": "`",
}  # fmt: skip
"""Letters of ours and what is written in their place, as wide as they are."""
LEVEL = "─━┄┅┈┉╌╍═╴╶╸╺"
UPRIGHT = "│┃┆┇┊┋╎╏║╵╷╹╻"
BOXES = ("─", "╿")
BRAILLE = ("⠀", "⣿")
"""What rich turns while one waits."""


def settle_streams() -> None:
    """Have standard output and error written in ASCII where the locale's encoding is not UTF-8.

    Python writes UTF-8 in the locale C, whatever a terminal in that locale would make of it; PYTHONIOENCODING and
    PYTHONUTF8 say otherwise, and are heeded.
    """
    codecs.register_error(ERRORS, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not speaks_unicode(stream):
            stream.reconfigure(encoding="ascii", errors=ERRORS)


def speaks_unicode(stream: TextIO) -> bool:
    """Return whether what is written to a stream may have any letter."""
    if (stream.encoding or "utf-8").lower().replace("-", "").replace("_", "") not in ("utf8", "utf8sig"):
        return False
    if os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8") == "1":
        return True
    if not sys.flags.utf8_mode:
        return True
    import locale  # which commands in another locale need not load

    return locale.getencoding().lower().replace("-", "") == "utf8"


def in_ascii(text: str) -> str:
    """Return a text as it is written where there is only ASCII."""
    return text if text.isascii() else "".join(map(_letter, text))


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return in_ascii(error.object[error.start : error.end]), error.end


def _letter(letter: str) -> str:
    if letter.isascii():
        return letter
    if letter in LETTERS:
        return LETTERS[letter]
    if letter in LEVEL:
        return "-"
    if letter in UPRIGHT:
        return "|"
    if BOXES[0] <= letter <= BOXES[1]:
        return "+"
    if BRAILLE[0] <= letter <= BRAILLE[1]:
        return "*"
    return letter.encode("ascii", "backslashreplace").decode()
