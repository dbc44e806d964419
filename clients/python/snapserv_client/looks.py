"""What a step came to and what a simulation is, as people read it: in a session of Python, and at a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from .figures import dtype_name, number, said, space

TYPES = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "array": "list",
    "object": "map",
}
PLURAL = {"integer", "number", "text", "list", "map"}
BOUNDS = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}


class Step(Protocol):
    """A `StepResult`, which imports this module."""

    step: int
    ticks: int
    outputs: Any
    elapsed_us: int


class Field(Protocol):
    """A `FieldInfo`."""

    name: str
    dtype: Any
    shape: list[int]
    units: str
    doc: str


class Method(Protocol):
    """A `MethodInfo`."""

    name: str
    signature: str
    doc: str


class Arena(Protocol):
    """An `ArenaInfo`."""

    backing: str
    size_bytes: int


class Spec(Protocol):
    """A `SpecResult`."""

    tree: str
    simulation: str
    doc: str
    inputs: dict[str, Any]
    params: dict[str, Any]
    param_values: dict[str, Any]
    setup_s: float

    @property
    def fields(self) -> Sequence[Field]:
        """Its fields."""

    @property
    def methods(self) -> Sequence[Method]:
        """The methods that the author exported."""

    @property
    def arena(self) -> Arena:
        """What its memory stands on."""


class Part(NamedTuple):
    """One of what a spec lists: a field, an input, a parameter or a method."""

    what: str
    name: str
    kind: str
    meaning: str


def elapsed(us: float) -> str:
    """Return a time with the unit that suits it."""
    if us < 1000:
        return f"{us:.0f} us"
    return f"{us / 1000:,.1f} ms" if us < 1e6 else f"{us / 1e6:,.1f} s"


def outputs_of(outputs: Any) -> dict[str, Any]:
    """Return outputs by name; those that have no names are one, which is called so."""
    if outputs is None:
        return {}
    return (
        {str(name): value for name, value in outputs.items()} if isinstance(outputs, dict) else {"output": outputs}
    )


def step_in_a_line(result: Step) -> str:
    """Return what a step came to, on a line."""
    outputs = ", ".join(f"{name} {said(value, 1)}" for name, value in outputs_of(result.outputs).items())
    return f"<{_head(result)}{f' · {outputs}' if outputs else ''}>"


def step_in_lines(result: Step) -> str:
    """Return what a step came to, an output a line."""
    outputs = outputs_of(result.outputs)
    wide = max(map(len, outputs), default=0)
    return "\n".join([_head(result), *(f"  {name:{wide}}  {said(value)}" for name, value in outputs.items())])


def _head(result: Step) -> str:
    ticks = f"{result.ticks:,} tick{'s' if result.ticks != 1 else ''}"
    return f"step {result.step:,} · {ticks} in {elapsed(result.elapsed_us)}"


def spec_in_lines(spec: Spec) -> str:
    """Return what a simulation is, a part a line."""
    parts = list(parts_of(spec))
    wide = [max((len(part[column]) for part in parts), default=0) for column in range(3)]
    lines = ["  ".join([*map(str.ljust, part[:3], wide), part.meaning]).rstrip() for part in parts]
    arena = f"arena {space(spec.arena.size_bytes)} of {spec.arena.backing}"
    setup = f"setup {number(round(spec.setup_s, 2))} s"
    head = f"{spec.tree} · {spec.simulation}"
    return "\n".join([head, *spec.doc.splitlines(), *lines, f"{arena} · {setup}"])


def parts_of(spec: Spec) -> Iterator[Part]:
    """Yield fields, inputs, parameters and methods."""
    for field in spec.fields:
        kind = f"{dtype_name(field.dtype)} {field.shape} {field.units}".rstrip()
        yield Part("field", field.name, kind, field.doc)
    for what, schema in (("input", spec.inputs), ("param", spec.params)):
        for name, declared in _properties(schema).items():
            default = declared.get("default", ...)
            given = spec.param_values.get(name, default) if what == "param" else default
            told = [] if given is ... else [f"{'is' if what == 'param' else 'by default'} {said(given, 1)}"]
            described = declared.get("description", "")
            yield Part(
                what, name, kind_of(declared, schema), " · ".join([*([described] if described else []), *told])
            )
    for method in spec.methods:
        yield Part("method", method.name, _as_called(method.signature), method.doc.partition("\n")[0])


def kind_of(declared: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return what a JSON schema allows, in words: ``list of 2 numbers``, ``integer >= 1``, ``'a' or 'b'``."""
    if "$ref" in declared:
        name = str(declared["$ref"]).rpartition("/")[2]
        found = schema.get("$defs", {}).get(name, {})
        return kind_of(found, schema) if "enum" in found else name
    if "enum" in declared:
        return " or ".join(map(repr, declared["enum"]))
    if "anyOf" in declared:
        return " or ".join(kind_of(each, schema) for each in declared["anyOf"])
    kind = TYPES.get(str(declared.get("type", "")), "anything")
    if kind == "list" and "prefixItems" in declared:
        parts = [kind_of(each, schema) for each in declared["prefixItems"]]
        return f"list of {len(parts)} {_plural(parts[0])}" if len({*parts}) == 1 else f"list of {', '.join(parts)}"
    if kind == "list" and isinstance(declared.get("items"), dict):
        return f"list of {_plural(kind_of(declared['items'], schema))}"
    if kind == "map" and isinstance(declared.get("additionalProperties"), dict):
        return f"map of {_plural(kind_of(declared['additionalProperties'], schema))}"
    bounds = [f"{sign} {number(declared[name])}" for name, sign in BOUNDS.items() if name in declared]
    return " ".join([kind, *bounds])


def _plural(kind: str) -> str:
    first, gap, rest = kind.partition(" ")
    return f"{first}s{gap}{rest}" if first in PLURAL else kind


def _as_called(signature: str) -> str:
    """Return a method's signature as it is called, without ``self`` and without quotes around annotations."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", re.sub(r"^\(self(, )?", "(", signature))


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    properties = schema.get("$defs", {}).get(name, schema).get("properties", {})
    return dict(properties)
