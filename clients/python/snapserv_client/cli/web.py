"""The command ``web``: the page of a server, in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import click

from .options import Endpoint, Json, failing
from .parameters import Option

PORT = 8470


def web(
    host: Annotated[
        str, Option(help="The address that it listens at; beyond loopback it needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, help="The port; 0 is any that is free.")] = PORT,
    token: Annotated[
        str | None, Option(envvar="SNAPSERV_WEB_TOKEN", help="What visitors need, or `new`: it is printed then.")
    ] = None,
    look: Annotated[bool, Option("--look", help="It changes nothing, whatever its key may do.")] = False,
    keys: Annotated[Path | None, Option(help="Folder of this client's keys.")] = None,
    exit_with_stdin: Annotated[bool, Option("--exit-with-stdin", hidden=True)] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Show a server in a browser: its tree, fields, curves and memory, and all that one does with nodes.

    It goes on until Ctrl-C, or SIGTERM.

    Examples:
        snapserv web
        snapserv web --host 0.0.0.0 --token new --look
    """
    from ..endpoint import chosen_endpoint
    from ..web import need_nicegui
    from .reaching import reach

    with failing(as_json=as_json):
        need_nicegui()
        chosen = chosen_endpoint(endpoint)
        if keys is None and not exit_with_stdin:
            reach(chosen).close()  # whoever is not there is said to be so now, and not on a page

        from ..web.access import token_for
        from ..web.app import Place, run
        from ..web.session import Reached

        def tell(address: str) -> None:
            said = json.dumps({"page": address, "endpoint": chosen}) if as_json else address
            click.echo(said)

        place = Place(host, port, token_for(host, token))
        run(Reached(chosen, keys), place, only_looks=look, until_eof=exit_with_stdin, on_ready=tell)
