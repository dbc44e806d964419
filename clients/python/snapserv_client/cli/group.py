"""A group of commands, each of which is loaded and built when it is asked for, and not before.

A command is a function in a module, which has what it needs loaded with it. One that is run loads its own alone;
what lists or completes commands reads their names in `snapserv_client.cli.contents`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .contents import TAKES_VALUES, Group
from .parameters import command_of, format_examples

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

WIDEST = 116
"""Columns that a text of help takes at most, where the terminal has as many."""
SETTINGS = {"max_content_width": WIDEST, "help_option_names": ["-h", "--help"]}
"""Of a group, and so of all commands in it."""


class Commands(Mapping[str, click.Command]):
    """Commands by name, in the order of their contents."""

    def __init__(self, group: Group) -> None:
        contents, self._groups = group.contents, group.groups
        self.summaries = {name: said for names in contents.values() for name, said in names.items()}
        self._modules = {name: module for module, names in contents.items() for name in names}
        self._built: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._built:
            self._built[name] = self._build(name, self._modules[name])
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def _build(self, name: str, module: str) -> click.Command:
        if name in self._groups:
            return LazyGroup(self._groups[name], name=name, help=self.summaries[name])
        return command_of(function_of(module, name), name, takes_values=name in TAKES_VALUES)


class LazyGroup(click.Group):
    """A group whose commands are built when they are asked for.

    Args:
        about: What commands, and how its help lists them.
        settings: Those of `click.Group`.
    """

    def __init__(self, about: Group, **settings: Any) -> None:
        super().__init__(no_args_is_help=True, context_settings=SETTINGS, **settings)
        self.about = about
        self._lazily = self.commands = Commands(about)  # type: ignore[assignment]  # nobody adds to them

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the contents."""
        return list(self._lazily)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin so; no command is built for it."""
        from click.shell_completion import CompletionItem

        said = self._lazily.summaries.items()
        found = [CompletionItem(name, help=text) for name, text in said if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, by what they are for, with all that is said of each; then how one begins."""
        widest = max(map(len, self._lazily))
        for title, names in self.about.sections.items():
            with formatter.section(title):
                said = [(name.ljust(widest), self._lazily.summaries[name]) for name in names]
                formatter.write_dl(said)
        format_examples(ctx, formatter, self.about.examples)


def function_of(module: str, name: str) -> Callable[..., Any]:
    """Return the function that a command runs."""
    loaded = importlib.import_module(module)
    found: Callable[..., Any] = getattr(loaded, f"{name}_", None) or getattr(loaded, name)
    return found
