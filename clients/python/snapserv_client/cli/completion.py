"""``completion``: what a shell has to be told once, so that it completes commands, options and names of nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import click
from click.shell_completion import get_completion_class

from ..errors import BadRequestError
from .options import Json, failing
from .output import show
from .parameters import PROGRAM, Argument, Option
from .saving import saving

SHELLS = ("bash", "zsh", "fish")
BEGINS = {
    "bash": '[ -r "{script}" ] && . "{script}"',
    "zsh": "(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}; "
    '[ -r "{script}" ] && . "{script}"',
}
"""The line of a shell's own file that has it read the script. Fish reads all that is in its folder."""


def completion(
    context: click.Context,
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None, Argument(help="Whose; that of SHELL by default.")
    ] = None,
    install: Annotated[
        bool, Option("--install", help="Put it where the shell reads it each time that it begins.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print what has a shell complete commands, options and names of nodes; or install it.

    Examples:
        snapserv completion bash
        snapserv completion --install
    """
    with failing(as_json=as_json):
        chosen = shell or _of_this_user()
        root = context.find_root()
        program = root.info_name or PROGRAM
        script = _script(root.command, program, chosen)
        if not install:
            if as_json:
                show({"shell": chosen, "script": script}, as_json=True, people=lambda: script)
            else:
                click.echo(script)  # for a shell, to the byte
            return
        place = _place(program, chosen)
        files = [place]
        with saving(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(script)
        if chosen in BEGINS:
            files.append(_own_file(chosen))
            with saving(files[1]):
                _say_once(files[1], BEGINS[chosen].format(script=place))
    told = {"shell": chosen, "files": [str(path) for path in files]}
    show(told, as_json=as_json, people=lambda: "\n".join([*told["files"], f"next: begin another {chosen}"]))


def _script(command: click.Command, program: str, shell: str) -> str:
    kind = get_completion_class(shell)
    if kind is None:
        raise BadRequestError(f"nothing is known of {shell}", hint=f"one of {', '.join(SHELLS)}")
    return kind(command, {}, program, f"_{program}_COMPLETE".replace("-", "_").upper()).source()


def _of_this_user() -> str:
    name = os.path.basename(os.environ.get("SHELL", ""))
    if name not in SHELLS:
        raise BadRequestError(
            f"SHELL is {name!r}, which cannot be told how to complete"
            if name
            else "SHELL does not say which shell",
            hint=f"name one of {', '.join(SHELLS)}: snapserv completion bash",
        )
    return name


def _place(program: str, shell: str) -> Path:
    if shell == "fish":
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(base, "fish", "completions", f"{program}.fish")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base, program, f"completion.{shell}")


def _own_file(shell: str) -> Path:
    if shell == "zsh":
        return Path(os.environ.get("ZDOTDIR") or Path.home(), ".zshrc")
    return Path.home() / ".bashrc"


def _say_once(file: Path, line: str) -> None:
    """Have a file end with a line, unless it is there already."""
    there = file.read_text() if file.exists() else ""
    if line not in there.splitlines():
        with file.open("a") as written:
            written.write(f"{'' if there.endswith(chr(10)) or not there else chr(10)}{line}\n")
