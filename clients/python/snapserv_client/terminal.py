"""Text that others wrote, for terminals: what a terminal would obey is shown instead.

A simulation chooses its outputs, its errors and their tracebacks, and so does whoever chooses its inputs. An escape
sequence in them could clear a screen, set a window's title, or have a line look like another. ECMA-48 begins such
sequences with ESC or with one of the C1 controls; Unicode's bidirectional controls reorder what is around them.
"""

from __future__ import annotations

_BIDIRECTIONAL = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_C0 = [code for code in range(0x20) if chr(code) not in "\n\t"]
_PICTURES = (
    {code: 0x2400 + code for code in _C0}
    | {0x7F: 0x2421}
    | dict.fromkeys((*range(0x80, 0xA0), *_BIDIRECTIONAL), 0xFFFD)
)
"""Unicode has a picture for each of the C0 controls, as wide as a letter: U+241B for ESC."""
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in (*_PICTURES, 0x0A, 0x09)}


def pictured(text: str) -> str:
    """Return a text with a picture of one letter in the place of each control character; lines stay lines."""
    return text.translate(_PICTURES)


def escaped(text: str) -> str:
    """Return a text on one line, with each control character written as Python writes it."""
    return text.translate(_ESCAPES)
