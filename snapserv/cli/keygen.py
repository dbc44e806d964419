"""``keygen``: make the keys of a server and of its clients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from snapserv_client.cli.options import Json, failing
from snapserv_client.cli.output import show
from snapserv_client.cli.parameters import Argument, Option

from snapserv.errors import BadRequestError


def keygen(
    owner: Annotated[Literal["server", "client"], Argument(help="Whose keys: the server's, first, or a client's.")],
    name: Annotated[str | None, Argument(help="What the server calls the client.")] = None,
    read_only: Annotated[bool, Option("--read-only", help="It may list, read, diff and watch.")] = False,
    keys: Annotated[Path | None, Option(help="Folder; ~/.config/snapserv/keys by default.")] = None,
    as_json: Json = False,
) -> None:
    """Make the keys of a server, or of a client, whom the server then lets in, also while it runs.

    Examples:
        snapserv keygen server
        snapserv keygen client ana --read-only
    """
    from snapserv_client.keys import default_folder

    from snapserv.server.keymaking import make_client_keys, make_server_keys

    folder = (keys or default_folder()).expanduser()
    with failing(as_json=as_json):
        if owner == "client":
            if name is None:
                raise BadRequestError("the client has no name", hint="write: snapserv keygen client NAME")
            made = make_client_keys(folder, name, read_only=read_only)
        else:
            if name is not None or read_only:
                raise BadRequestError("NAME and --read-only are a client's", hint="write: snapserv keygen server")
            made = make_server_keys(folder)
    said = {"public": made.public, "files": made.files, "next": made.next}
    show(said, as_json=as_json, people=lambda: "\n".join([*made.files, f"next: {made.next}"]))
