"""What all of the page is made of: plain elements of HTML, so that it is dense and quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

from nicegui import events
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

Handler: TypeAlias = Callable[[], Any]
VALUE = "(e) => emit(e.target.value)"
FIRST_VALUE = "^value"
"""What stands there at first. As ``value`` it would be put back whenever anything else on the page changes."""


def box(classes: str = "", tag: str = "div", **attributes: object) -> Element:
    """Return an element to put others into."""
    made = Element(tag).classes(classes)
    for name, value in attributes.items():
        made.props[name.replace("_", "-")] = value
    return made


def text(said: str = "", classes: str = "", tag: str = "span", **attributes: object) -> TextElement:
    """Return an element of text."""
    made = TextElement(tag=tag, text=said).classes(classes)
    for name, value in attributes.items():
        made.props[name.replace("_", "-")] = value
    return made


class Button(TextElement):
    """A button.

    Args:
        said: What is on it.
        on_click: What it does.
        key: The key that does the same.
        classes: How it looks.
    """

    def __init__(
        self, said: str, on_click: Handler, *, key: str = "", classes: str = "act", title: str = ""
    ) -> None:
        super().__init__(tag="button", text=said)
        self._able = True
        self.classes(classes)
        self.props["type"] = "button"
        if title:
            self.props["title"] = title
        if key:
            self.props["aria-keyshortcuts"] = key
            with self:
                text(key, tag="kbd")
        self.on("click", lambda _: on_click(), args=[])

    def able(self, able: bool, why: str = "") -> Button:
        """Have it work, or not, and say why."""
        self.props["disabled"] = not able
        if why and not able:
            self.props["title"] = why
        self._able = able
        return self

    @property
    def is_ignoring_events(self) -> bool:
        """Whether what a browser says of it counts for nothing."""
        return super().is_ignoring_events or not self._able


class Field(Element):
    """Something to type into; `value` is what stands there.

    Args:
        label: What it is for, for those who cannot see it.
        value: What stands there at first.
        placeholder: What is shown where nothing stands.
        lines: Of more than one, it is for longer text.
        on_enter: Called when Enter is pressed.
        on_change: Called with what stands there when that is another text.
    """

    def __init__(
        self,
        label: str,
        value: str = "",
        *,
        placeholder: str = "",
        kind: str = "text",
        lines: int = 1,
        on_enter: Handler | None = None,
        on_change: Callable[[str], Any] | None = None,
        classes: str = "field",
    ) -> None:
        super().__init__("input" if lines == 1 else "textarea")
        self.classes(classes)
        self._value = value
        self._on_change = on_change
        self.props["aria-label"] = label
        self.props[FIRST_VALUE] = value
        self.props["placeholder"] = placeholder
        self.props["spellcheck"] = "false"
        self.props["autocomplete"] = "off"
        if lines == 1:
            self.props["type"] = kind
        else:
            self.props["rows"] = str(lines)
        self.on("input", self._typed, js_handler=VALUE, throttle=0.15, leading_events=False)
        self.on("change", self._typed, js_handler=VALUE)
        if on_enter is not None and lines == 1:

            def entered(event: events.GenericEventArguments) -> Any:
                self._value = str(event.args)
                return on_enter()

            self.on("keydown.enter", entered, js_handler=VALUE)

    def _typed(self, event: events.GenericEventArguments) -> Any:
        before, self._value = self._value, str(event.args)
        if self._on_change is not None and before != self._value:
            return self._on_change(self._value)
        return None

    @property
    def value(self) -> str:
        """What stands there."""
        return self._value

    def wrong(self, wrong: bool) -> None:
        """Show whether what stands there cannot be understood."""
        self.classes(add="wrong" if wrong else None, remove=None if wrong else "wrong")


class Choice(Element):
    """One of several, in a list; `value` is what is chosen."""

    def __init__(
        self,
        label: str,
        options: Mapping[str, str] | Sequence[str],
        value: str = "",
        *,
        on_change: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__("select")
        self.classes("field")
        self.props["aria-label"] = label
        named = options if isinstance(options, Mapping) else {each: each for each in options}
        self._value = value if value in named else next(iter(named), "")
        # As one text: hundreds of them would be hundreds of elements to keep here and to send.
        self.props["innerHTML"] = "".join(
            f'<option value="{escape(each)}"{" selected" if each == self._value else ""}>{escape(said)}</option>'
            for each, said in named.items()
        )
        self._on_change = on_change
        self.on("change", self._chosen, js_handler=VALUE)

    def _chosen(self, event: events.GenericEventArguments) -> Any:
        self._value = str(event.args)
        return None if self._on_change is None else self._on_change(self._value)

    @property
    def value(self) -> str:
        """What is chosen."""
        return self._value


class Check(Element):
    """A box to be ticked; `value` is whether it is."""

    def __init__(self, said: str, value: bool = False) -> None:
        super().__init__("label")
        self.classes("row-of")
        self.value = value
        with self:
            ticked = box(tag="input", type="checkbox", checked=value)
            text(said)
        ticked.on("change", self._ticked, js_handler="(e) => emit(e.target.checked)")

    def _ticked(self, event: events.GenericEventArguments) -> None:
        self.value = bool(event.args)


class Picked(Element):
    """One of a few, all in sight; or any of them."""

    def __init__(
        self, options: Iterable[str], chosen: Iterable[str], on_pick: Callable[[str], Any], *, label: str
    ) -> None:
        super().__init__("div")
        self.classes("pick")
        self.props["role"] = "group"
        self.props["aria-label"] = label
        self._buttons: dict[str, Button] = {}
        with self:
            for each in options:
                self._buttons[each] = Button(each, lambda each=each: on_pick(each), classes="")  # type: ignore[misc]
        self.show(chosen)

    def show(self, chosen: Iterable[str]) -> None:
        """Show which are chosen."""
        held = set(chosen)
        for name, button in self._buttons.items():
            button.props["aria-pressed"] = "true" if name in held else "false"


def listed(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Element:
    """Return a table; columns whose head begins with ``>`` are of numbers."""
    looks = [' class="n"' if head.startswith(">") else "" for head in heads]

    def line(kind: str, cells: Sequence[str]) -> str:
        told = (f"<{kind}{look}>{escape(cell)}</{kind}>" for look, cell in zip(looks, cells, strict=True))
        return f"<tr>{''.join(told)}</tr>"

    head = line("th", [each.removeprefix(">") for each in heads])
    body = "".join(line("td", row) for row in rows)
    return box("scroll", innerHTML=f'<table class="list"><thead>{head}</thead><tbody>{body}</tbody></table>')


class Slider(Element):
    """A slider over whole numbers.

    Args:
        label: What it is of.
        low: The first.
        high: The last.
        value: Where it stands.
        on_move: Called with where it is moved to.
    """

    def __init__(self, label: str, low: int, high: int, value: int, on_move: Callable[[int], Any]) -> None:
        super().__init__("input")
        self.props["type"] = "range"
        self.props["aria-label"] = label
        self.props[FIRST_VALUE] = value
        self._on_move = on_move
        self._low, self._high = low, high
        self.props["min"], self.props["max"] = low, high
        self.on("input", self._moved, js_handler=VALUE, throttle=0.12)

    def _moved(self, event: events.GenericEventArguments) -> Any:
        return self._on_move(min(max(int(event.args), self._low), self._high))

    def stand(self, low: int, high: int, value: int) -> None:
        """Have it reach from here to there, and stand at a place."""
        self._low, self._high = low, high
        self.props["min"], self.props["max"], self.props[FIRST_VALUE] = low, high, value
        self.client.run_javascript(
            f"{{ const slider = document.getElementById({self.html_id!r});"
            f" if (slider) {{ slider.min = {low}; slider.max = {high}; slider.value = {value}; }} }}"
        )
