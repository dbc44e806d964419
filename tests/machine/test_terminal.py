"""Text of others is shown by a terminal: nothing in it is obeyed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from snapserv_client.terminal import escaped, pictured

CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200F, 0x202E, 0x2066)}


@given(st.text(st.one_of(st.sampled_from(sorted(CONTROLS)), st.characters())))
def test_no_control_character_is_left(text: str) -> None:
    assert not set(escaped(text)) & CONTROLS
    assert set(pictured(text)) & CONTROLS <= {"\n", "\t"}
    assert len(pictured(text)) == len(text)


def test_what_is_shown_can_be_recognised() -> None:
    assert pictured("\x1b[2Jgone\x07\n") == "␛[2Jgone␇\n"
    assert escaped("\x1b[2Jgone\n\x9b1m\u202e") == r"\x1b[2Jgone\n\x9b1m\u202e"
    assert escaped("ümlaut ✓") == pictured("ümlaut ✓") == "ümlaut ✓"
