"""A form made of a simulation's own schema of its inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import BadRequestError
from ..plain import Value
from .parts import Choice, Field, Handler, box, text

Schema = Mapping[str, Any]
MOST_IN_A_ROW = 6
ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)


def resolved(schema: Schema, root: Schema) -> Schema:
    """Return what a schema stands for: without references, and without null where there is something else."""
    for _ in range(16):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            schema = {**root.get("$defs", {}).get(reference.rpartition("/")[2], {}), **_beside(schema)}
            continue
        options = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
        if len(options) != 1:
            break
        schema = {**options[0], **{name: value for name, value in schema.items() if name != "anyOf"}}
    return schema


def _beside(schema: Schema) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "$ref"}


def meanings(description: str) -> dict[str, str]:
    """Return what is said of each attribute in a docstring."""
    _, _, attributes = description.partition("Attributes:")
    return {name: " ".join(said.split()) for name, said in ATTRIBUTE.findall(attributes)}


class InputsForm:
    """Fields for the inputs of a tick; what is left empty is not sent, and the simulation's default holds.

    Args:
        schema: The JSON schema of the inputs.
        held: What was typed before, by name; it is kept up to date.
        on_enter: Called when Enter is pressed in one of them.
    """

    def __init__(self, schema: Schema, held: dict[str, list[str]], on_enter: Handler) -> None:
        self._held = held
        self._on_enter = on_enter
        self._readers: dict[str, Callable[[], Value]] = {}
        whole = resolved(schema, schema)
        self.properties: Mapping[str, Schema] = whole.get("properties", {})
        said = meanings(str(whole.get("description", "")))
        for name, each in self.properties.items():
            self._field(name, resolved(each, schema), said.get(name, ""))

    def values(self) -> dict[str, Value]:
        """Return what was typed.

        Raises:
            BadRequestError: Something that is no value; says where.
        """
        return {name: value for name, read in self._readers.items() if (value := read()) is not None}

    def _field(self, name: str, schema: Schema, meaning: str) -> None:
        default = schema.get("default")
        with box(tag="label", title=meaning):
            text(name, "mono")
            kinds = schema.get("prefixItems", ())
            numbers = [str(each.get("type")) for each in kinds]
            if "enum" in schema:
                shown = {
                    "": f"default: {default}" if default is not None else "",
                    **{str(e): str(e) for e in schema["enum"]},
                }
                self._choice(name, shown, {str(each): each for each in schema["enum"]})
            elif schema.get("type") == "boolean":
                said = {"": f"default: {str(default).lower()}", "true": "true", "false": "false"}
                self._choice(name, said, {"true": True, "false": False})
            elif 0 < len(numbers) <= MOST_IN_A_ROW and set(numbers) <= {"number", "integer"}:
                self._pair(name, numbers, default)
            else:
                self._single(name, schema, default)

    def _choice(self, name: str, shown: Mapping[str, str], values: Mapping[str, Value]) -> None:
        before = self._held.setdefault(name, [""])
        chosen = Choice(name, shown, before[0], on_change=lambda value: before.__setitem__(0, value))
        self._readers[name] = lambda: values.get(chosen.value)

    def _pair(self, name: str, kinds: list[str], default: object) -> None:
        before = self._held.setdefault(name, [""] * len(kinds))
        usual = default if isinstance(default, list | tuple) and len(default) == len(kinds) else [""] * len(kinds)
        fields: list[Field] = []
        with box("pair"):
            for place, kind in enumerate(kinds):
                fields.append(self._typed(f"{name} {place}", before, place, str(usual[place]), kind))

        def read() -> Value:
            texts = [field.value.strip() for field in fields]
            if not any(texts):
                return None
            filled = [said or str(usual[place]) for place, said in enumerate(texts)]
            return [
                _number(name, said, kind, field) for said, kind, field in zip(filled, kinds, fields, strict=True)
            ]

        self._readers[name] = read

    def _single(self, name: str, schema: Schema, default: object) -> None:
        before = self._held.setdefault(name, [""])
        kind = str(schema.get("type", ""))
        shown = "" if default is None else default if isinstance(default, str) else json.dumps(default)
        field = self._typed(name, before, 0, shown or kind, kind)

        def read() -> Value:
            said = field.value.strip()
            if not said:
                return None
            if kind in ("number", "integer"):
                return _number(name, said, kind, field)
            return said if kind == "string" else _parsed(name, said, field)

        self._readers[name] = read

    def _typed(self, label: str, held: list[str], place: int, placeholder: str, kind: str) -> Field:
        return Field(
            label,
            held[place],
            placeholder=placeholder,
            on_enter=self._on_enter,
            on_change=lambda value: held.__setitem__(place, value),
        )


def _number(name: str, said: str, kind: str, field: Field) -> Value:
    field.wrong(False)
    try:
        return int(said) if kind == "integer" else float(said)
    except ValueError:
        field.wrong(True)
        wanted = "a whole number" if kind == "integer" else "a number"
        raise BadRequestError(f"{name}: {said!r} is not {wanted}") from None


def _parsed(name: str, said: str, field: Field) -> Value:
    field.wrong(False)
    try:
        value: Value = json.loads(said)
    except json.JSONDecodeError as cause:
        field.wrong(True)
        raise BadRequestError(f"{name}: {said!r} is no JSON: {cause.msg}", hint="as in [1, 2] or 3.5") from None
    return value
