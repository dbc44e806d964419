"""Questions before something is done: what it is to be called, or whether it is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nicegui import ui

from .parts import Button, Check, Choice, Field, box, text


@dataclass(frozen=True)
class Asked:
    """One thing that is asked for.

    Attributes:
        name: What the answer is called.
        label: What is written before it.
        value: What stands there at first; a truth value is a box to tick.
        hint: What is shown where nothing stands.
        options: What there is to choose from.
        lines: How many lines there are to type.
    """

    name: str
    label: str
    value: str | bool = ""
    hint: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    lines: int = 1


Answers = dict[str, str | bool]


async def ask(
    title: str, asked: Sequence[Asked] = (), *, do: str, says: str = "", danger: bool = False
) -> Answers | None:
    """Ask, and return the answers by name; None where it is not wanted after all.

    Args:
        title: What is about to be done.
        asked: What is to be known for it.
        do: What is on the button that does it.
        says: What there is to say of it.
        danger: Whether something will be gone.
    """
    parts: dict[str, Field | Choice | Check] = {}
    with ui.dialog() as dialog, box("dialog"):
        text(title, tag="h2")
        if says:
            text(says, tag="p")
        with box("form"):
            for each in asked:
                parts[each.name] = _part(each, lambda: dialog.submit(True))
        with box("row-of"):
            box("gap")
            Button("Cancel", lambda: dialog.submit(None))
            Button(do, lambda: dialog.submit(True), classes="act danger" if danger else "act first")
    try:
        dialog.open()
        _focus_first(bool(asked))
        sure = await dialog
        return {name: part.value for name, part in parts.items()} if sure else None
    finally:
        if not dialog.is_deleted:  # as it is where the browser is gone
            dialog.delete()


def _part(asked: Asked, submit: object) -> Field | Choice | Check:
    if isinstance(asked.value, bool):
        return Check(asked.label, asked.value)
    with box(tag="label"):
        text(asked.label)
        if asked.options:
            return Choice(asked.label, asked.options, asked.value)
        return Field(
            asked.label,
            asked.value,
            placeholder=asked.hint,
            lines=asked.lines,
            on_enter=submit if callable(submit) else None,
        )


def _focus_first(has_fields: bool) -> None:
    where = ".dialog .field, .dialog input" if has_fields else ".dialog .act:last-child"
    unless = "document.querySelector('.dialog')?.contains(document.activeElement)"
    ui.run_javascript(f"setTimeout(() => {unless} || document.querySelector({where!r})?.focus(), 60)")


def show_keys(keys: Sequence[tuple[str, str]]) -> None:
    """Show what keys do."""
    with ui.dialog() as dialog, box("dialog"):
        text("Keys", tag="h2")
        with box("keys"):
            for key, does in keys:
                with box(tag="span"):
                    for each in key.split():
                        text(each, tag="kbd")
                text(does)
        with box("row-of"):
            box("gap")
            Button("Close", dialog.close)
    dialog.open()
