"""Who may see the page: its token, its name, and pages of other sites."""

from __future__ import annotations

import http.client
import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from snapserv_client.errors import BadRequestError
from snapserv_client.web.access import token_for

from ..cli.conftest import typed
from ..conftest import ServerProcess, assert_nothing_left, start_server
from .conftest import Open, page_of

TOKEN = "a-token-of-some-length"


def asked(address: str, path: str = "/", **headers: str) -> tuple[int, dict[str, str]]:
    """Ask for a page, and return the status and the headers of the answer."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def test_beyond_loopback_a_token_is_needed() -> None:
    assert token_for("127.0.0.1", None) is None
    assert token_for("::1", None) is None
    with pytest.raises(BadRequestError, match="others could reach the page"):
        token_for("0.0.0.0", None)
    with pytest.raises(BadRequestError, match="16 are the least"):
        token_for("127.0.0.1", "short")
    made = token_for("0.0.0.0", "new")
    assert made is not None
    assert len(made) > 20
    assert made != token_for("0.0.0.0", "new")


def test_without_the_token_there_is_nothing(fires: ServerProcess) -> None:
    with page_of(fires.endpoint, "--token", TOKEN) as address:
        assert address.endswith(f"/?token={TOKEN}")
        assert asked(address)[0] == 401
        assert asked(address, f"/?token={TOKEN}x")[0] == 401
        assert asked(address, "/", cookie="snapserv=wrong")[0] == 401
        assert asked(address, "/_nicegui_ws/socket.io/?transport=polling")[0] == 401
        assert asked(address, "/pictures/x.png")[0] == 401
        status, headers = asked(address, f"/?token={TOKEN}")
        assert (status, headers["location"]) == (303, "/")
        assert "HttpOnly" in headers["set-cookie"]
        assert asked(address, "/", cookie=f"snapserv={TOKEN}")[0] == 200


def test_a_browser_with_the_token_keeps_a_cookie_and_others_are_refused(fires: ServerProcess, look: Open) -> None:
    with page_of(fires.endpoint, "--token", TOKEN) as address:
        page = look(address)
        assert page.url == address.partition("?")[0]
        page.reload()
        page.wait_for_selector(".tree-row")
        stranger = page.context.browser.new_context().new_page()
        answer = stranger.goto(page.url + "?token=another-one-altogether")
        assert answer.status == 401
        stranger.context.close()
        page.context.close()


def test_another_sites_page_and_another_name_are_refused(address: str) -> None:
    own = urlsplit(address).netloc
    assert asked(address)[0] == 200
    assert asked(address, host=f"localhost:{urlsplit(address).port}")[0] == 200
    assert asked(address, host="rebound.example")[0] == 403
    assert asked(address, origin="http://evil.example")[0] == 403
    assert asked(address, "/_nicegui_ws/socket.io/?EIO=4&transport=polling", origin="http://evil.example")[0] == 403
    assert asked(address, origin=f"http://{own}")[0] == 200


def test_a_command_says_what_it_lacks(fires: ServerProcess, tmp_path: Path) -> None:
    beyond = typed("web", "-e", fires.endpoint, "--host", "0.0.0.0", "--json")
    assert beyond.returncode == 2
    assert json.loads(beyond.stdout)["error"]["hint"] == "--token new makes a token that they need"
    nobody = typed("web", "-e", f"ipc://{tmp_path}/none.sock", "--port", "0", "--json")
    assert nobody.returncode == 3
    assert json.loads(nobody.stdout)["error"]["code"] == "unreachable"
    with page_of(fires.endpoint) as address:
        taken = typed("web", "-e", fires.endpoint, "--port", str(urlsplit(address).port), "--json")
        assert json.loads(taken.stdout)["error"]["code"] == "address_unavailable"


def test_with_a_key_that_only_reads_it_only_looks(look: Open, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("keyed")
    keys = folder / "keys"
    for words in (("server",), ("client", "rob", "--read-only")):
        assert typed("keygen", *words, "--keys", str(keys)).returncode == 0
    server = start_server(folder, "examples.counter:Counter", options=("--keys", str(keys)))
    with page_of(server.endpoint, "--keys", str(keys / "clients" / "rob")) as address:
        page = look(address)
        buttons = page.locator(".actions .act:not(:text-is('More')), .act.first")
        assert buttons.count() >= 3
        assert all(button.is_disabled() for button in buttons.all())
        assert "may only read" in page.locator(".actions").inner_text()
        page.keyboard.press("n")
        page.keyboard.press("s")
        page.locator(".head .tabs button", has_text="About").click()
        page.wait_for_selector("table.list")
        assert page.locator(".dialog").count() == 0
        page.context.close()
    assert server.end() == 0
    shutil.rmtree(keys)
    assert_nothing_left(server, folder)


def test_it_only_looks_where_it_is_told_to(fires: ServerProcess, look: Open) -> None:
    with page_of(fires.endpoint, "--look") as address:
        page = look(address)
        assert page.locator(".act.first").is_disabled()
        assert "this page only looks" in page.locator(".actions").inner_text()
        page.context.close()
