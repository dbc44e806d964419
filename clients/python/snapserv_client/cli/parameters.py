"""Commands from functions: an argument or option for each parameter, as its annotation says.

``ticks: Annotated[int, Argument(help="How many.")] = 1`` is an argument, and ``Annotated[int, Option(min=1)]`` an
option.
A list may be given several times, a bool is a flag, and None stands for what was not given.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click

NEGATIVE = re.compile(r"-(\d|Infinity)")
PROGRAM = "snapserv"
EXAMPLES = "\n\nExamples:\n"
"""What comes before the examples, which are the last of what a function says of itself."""
KINDS: dict[Any, Any] = {str: str, int: int, float: float, bool: bool, Path: click.Path(path_type=Path)}


class Argument:
    """An argument: what it means, and what it is called in the usage.

    Args:
        help: What it means.
        metavar: What it is called.
        settings: Further ones of `click.Argument`.
    """

    def __init__(self, *, help: str = "", metavar: str | None = None, **settings: Any) -> None:
        self.help = help
        self.metavar = metavar
        self.settings = settings


class Option:
    """An option.

    Args:
        names: As they are typed; after the parameter by default, with a ``--no-`` for flags.
        help: What it means.
        min: The least that its number may be.
        beside: Another option, which gives the function its value by way of this one's callback.
        settings: Further ones of `click.Option`.
    """

    def __init__(
        self,
        *names: str,
        help: str = "",
        min: float | None = None,
        beside: click.Option | None = None,
        **settings: Any,
    ) -> None:
        self.names = names
        self.help = help
        self.min = min
        self.beside = beside
        self.settings = settings


class Command(click.Command):
    """A command, whose help has its arguments and examples as well as its options.

    Args:
        takes_values: Whether its arguments may be negative numbers, which are no options.
        said: What is said of each argument.
        examples: Command lines, as they are typed.
        settings: Those of `click.Command`.
    """

    def __init__(
        self, *, takes_values: bool, said: list[tuple[str, str]], examples: list[str], **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.examples = examples
        self._takes_values = takes_values
        self._said = said

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; a blank before a number, which JSON allows, has it taken for an argument."""
        if self._takes_values:
            args = [f" {text}" if NEGATIVE.match(text) else text for text in args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what there is to say of arguments, then of options."""
        if self._said:
            with formatter.section("Arguments"):
                formatter.write_dl(self._said)
        super().format_options(ctx, formatter)
        format_examples(ctx, formatter, self.examples)


def command_of(function: Callable[..., Any], name: str, *, takes_values: bool = False) -> Command:
    """Return the command that calls a function."""
    params, said = parameters_of(function)
    text, _, examples = (inspect.getdoc(function) or "").partition(EXAMPLES)
    return Command(
        name=name,
        callback=function if not _wants_context(function) else click.pass_context(function),
        params=params,
        help=text,
        takes_values=takes_values,
        said=said,
        examples=[line.strip() for line in examples.splitlines()],
    )


def format_examples(context: click.Context, formatter: click.HelpFormatter, examples: Iterable[str]) -> None:
    """Write command lines without line breaks, for whoever copies one, and with the name that the program has."""
    program = context.find_root().info_name or PROGRAM
    with formatter.section("Examples"):
        for line in examples:
            formatter.write(f"{'':{formatter.current_indent}}{program} {line.partition(' ')[2]}\n")


def parameters_of(function: Callable[..., Any]) -> tuple[list[click.Parameter], list[tuple[str, str]]]:
    """Return click's parameters for a function's, and what is said of each argument."""
    params: list[click.Parameter] = []
    said: list[tuple[str, str]] = []
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        declared = next((each for each in get_args(hints[name]) if isinstance(each, Argument | Option)), None)
        if declared is None:
            continue  # the context
        kind, several = _kind_of(get_args(hints[name])[0])
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        settings: dict[str, Any] = {"required": required, "callback": _given(default) if several else None}
        if default is not None:
            settings["default"] = default
        if isinstance(declared, Option):
            params.append(_option(name, kind, declared, settings | {"multiple": several}))
            params += [] if declared.beside is None else [declared.beside]
            continue
        nargs = -1 if several else 1
        settings |= {"metavar": declared.metavar, "nargs": nargs, **declared.settings}
        made = click.Argument([name], type=kind, **settings)
        params.append(made)
        if declared.help:
            shown = f"  [default: {default}]" if default else ""
            said.append((made.make_metavar(click.Context(click.Command(name))), declared.help + shown))
    return params, said


def _option(name: str, kind: Any, declared: Option, settings: dict[str, Any]) -> click.Option:
    long = f"--{name.replace('_', '-')}"
    if kind is bool:
        del settings["multiple"]
        settings |= {"is_flag": True}
        names = declared.names or (f"{long}/--no-{long[2:]}",)
    else:
        settings |= {"type": _from(declared.min, kind)}
        names = declared.names or (long,)
    settings |= {"help": declared.help, "show_default": bool(settings.get("default"))}
    settings |= {"show_envvar": "envvar" in declared.settings, **declared.settings}
    return click.Option([name, *names], **settings)


def _kind_of(annotated: Any) -> tuple[Any, bool]:
    """Return the type of one value of a parameter, and whether there may be several."""
    if get_origin(annotated) in (UnionType, Union):
        annotated = next(each for each in get_args(annotated) if each is not NoneType)
    if get_origin(annotated) is list:
        return _kind_of(get_args(annotated)[0])[0], True
    if get_origin(annotated) is Literal:
        return click.Choice(get_args(annotated)), False
    return KINDS[annotated], False


def _from(least: float | None, kind: Any) -> Any:
    if least is None:
        return kind
    return click.IntRange(min=int(least)) if kind is int else click.FloatRange(min=least)


def _given(default: Any) -> Callable[[Any, Any, Any], Any]:
    """Return what makes a list of several values, and the default of none."""
    return lambda _, __, values: list(values) if values else default


def _wants_context(function: Callable[..., Any]) -> bool:
    return "context" in inspect.signature(function).parameters
