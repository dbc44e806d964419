"""``keygen``: make the keys of a server and of its clients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json, failing
from .output import show

if TYPE_CHECKING:
    from snapserv.keymaking import MadeKeys

Folder = Annotated[Path | None, typer.Option("--keys", help="Folder of keys; ~/.config/snapserv/keys by default.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make the keys of a server and of its clients.", no_args_is_help=True)
    group.command("server")(server)
    group.command("client")(client)
    app.add_typer(group, name="keygen")


def server(keys: Folder = None, as_json: Json = False) -> None:
    """Make the server's keys."""
    from snapserv.keymaking import make_server_keys

    with failing(as_json=as_json):
        _show(make_server_keys(_folder(keys)), as_json=as_json)


def client(
    name: Annotated[str, typer.Argument(help="What the server calls it.")],
    read_only: Annotated[bool, typer.Option("--read-only", help="It may list, read, diff and watch.")] = False,
    keys: Folder = None,
    as_json: Json = False,
) -> None:
    """Make a client's keys, which the server accepts from now on, also while it runs."""
    from snapserv.keymaking import make_client_keys

    with failing(as_json=as_json):
        _show(make_client_keys(_folder(keys), name, read_only=read_only), as_json=as_json)


def _folder(keys: Path | None) -> Path:
    from snapserv_client.keys import default_folder

    return (keys or default_folder()).expanduser()


def _show(made: MadeKeys, *, as_json: bool) -> None:
    said = {"public": made.public, "files": made.files, "next": made.next}
    show(said, as_json=as_json, people=lambda: "\n".join([*made.files, f"next: {made.next}"]))
