"""service/front/keys.py: who holds which key may do what, on the hot routes and on all others."""

from __future__ import annotations

import json
import logging
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from service.__main__ import main
from service.errors import RefusedError, SettingsError, UnknownKeyError
from service.front.keys import SCOPES, Keys, make_key, read_keys
from tests.repositories import examples, write_pair
from tests.served import free_port, serving

CHROMIUM = shutil.which("chromium")
BODY = json.dumps({"inputs": examples(1)[0].tolist()}).encode()


def test_a_key_that_is_made_is_known_by_its_line():
    """And does what its scopes say."""
    secret, line = make_key("ci", ["predict", "compare"])
    keys = read_keys(line, None)
    for scope in ("predict", "compare", None):
        keys.check(f"Bearer {secret}", scope)
        keys.check(f"bearer {secret}", scope)
    with pytest.raises(RefusedError, match=r"^the key ci is for compare, predict, expected admin$"):
        keys.check(f"Bearer {secret}", "admin")
    assert secret not in line


@pytest.mark.parametrize("given", [None, "", "Bearer", "Basic eDp5", "Bearer ", "Bearer sr-wrong", "sr-wrong"])
def test_whoever_holds_none_is_refused(given: str | None):
    """Whatever was sent is not repeated."""
    keys = read_keys(make_key("ci", SCOPES)[1], None)
    with pytest.raises(UnknownKeyError) as refused:
        keys.check(given, None)
    assert "wrong" not in str(refused.value)


def test_without_keys_everyone_may_do_everything():
    """As on one's own machine."""
    Keys().check(None, "admin")


def test_keys_come_from_a_text_and_a_file(tmp_path: Path):
    """A file may hold comments and empty lines."""
    (one, first), (two, second) = make_key("one", ["predict"]), make_key("two", ["admin"])
    file = tmp_path / "keys"
    file.write_text(f"# of the team\n\n  {second}  # until May\n")
    keys = read_keys(first, file)
    assert len(keys) == 2
    keys.check(f"Bearer {one}", "predict")
    keys.check(f"Bearer {two}", "admin")


HASH = "0" * 64


@pytest.mark.parametrize(
    ("text", "lines", "error"),
    [
        ("x", None, "--api-keys: not a key, expected NAME:SCOPE"),
        ("  ", None, "--api-keys: got '  ', which holds no key"),
        (f"a:predict:{HASH[1:]}", None, "--api-keys: not a key"),
        (f"a:root:{HASH}", None, "--api-keys: a has the scopes root, expected some of predict, compare, admin"),
        ("", f"a:predict:{HASH}\nb\n", "keys, line 2: not a key"),
        ("", "# none\n", "holds no key, expected lines of NAME"),
    ],
)
def test_what_is_no_key_is_named_without_its_hash(text: str, lines: str | None, error: str, tmp_path: Path):
    """A service that came up without the key that somebody meant would be open."""
    file = tmp_path / "keys"
    if lines is not None:
        file.write_text(lines)
    with pytest.raises(SettingsError, match=re.escape(error)) as refused:
        read_keys(text, file if lines is not None else None)
    assert HASH[1:] not in str(refused.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path):
    """With its name."""
    with pytest.raises(SettingsError, match=r"--api-keys-file: cannot read '.*none'"):
        read_keys("", tmp_path / "none")


def test_the_command_makes_a_key(capsys: pytest.CaptureFixture[str]):
    """It is shown once; a scope that there is not is one line."""
    assert main(["key", "ci", "--scopes", "predict,admin"]) == 0
    found = re.fullmatch(
        r"the key, shown this once: +(\S+)\na line for --api-keys-file: (\S+)\n", capsys.readouterr().out
    )
    assert found is not None
    read_keys(found[2], None).check(f"Bearer {found[1]}", "admin")
    assert main(["key", "ci", "--scopes", "root"]) == 2
    assert capsys.readouterr().err == "service: key: ci has the scopes root, expected some of predict, compare, admin\n"
    assert main(["key", "c i"]) == 2


KEYS = {scope: make_key(scope, [scope]) for scope in SCOPES}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    models = tmp_path_factory.mktemp("models")
    write_pair(models)
    file = models.parent / "keys"
    file.write_text("\n".join(line for _, line in KEYS.values()))
    options = ["--api-keys-file", str(file), "--model-control", "true"]
    with serving(models, free_port(), *options) as client:
        yield client


ROUTES = [
    ("POST", "/predict", "predict"),
    ("POST", "/v2/models/digits-student/infer", "predict"),
    ("POST", "/v2/models/digits-student/versions/1/infer", "predict"),
    ("POST", "/compare", "compare"),
    ("GET", "/metrics", "admin"),
    ("POST", "/v2/repository/models/digits-ensemble/load", "admin"),
    ("POST", "/v2/repository/models/digits-ensemble/unload", "admin"),
    ("GET", "/models", None),
    ("GET", "/v2/models/digits-student", None),
    ("POST", "/v2/repository/index", None),
    ("GET", "/made-up", None),
]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_each_route_needs_its_scope(method: str, path: str, scope: str | None, chunked: bool, client: httpx.Client):
    """By either way; with none 401, with another 403, with the right one whatever the route says."""

    def status(key: str | None) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        body = iter([b"[", b"]"]) if chunked else b"[]"
        return client.request(method, path, content=body if method == "POST" else None, headers=headers)

    for key in (None, "sr-wrong"):
        answer = status(key)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert set(answer.json()) == {"error"}
    for name, (secret, _) in KEYS.items():
        if scope in (None, name):
            assert status(secret).status_code not in (401, 403)
        else:
            assert status(secret).status_code == 403


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/v2/health/live", "/v2", "/", "/docs", "/page/page.js"]
)
def test_probes_and_the_page_stay_open(path: str, client: httpx.Client):
    """An orchestrator has no key."""
    assert client.get(path).status_code in (200, 404)


@pytest.mark.parametrize("path", ["/metrics", "/predict", "/compare", "/v2/models/digits-student/infer"])
@pytest.mark.parametrize("end", ["%0A", "%0a", "%0D", "%00"])
def test_a_line_break_at_the_end_is_no_way_in(path: str, end: str, client: httpx.Client):
    """A router may take such a path for the one without it."""
    for secret, _ in KEYS.values():
        headers = {"Authorization": f"Bearer {secret}"}
        assert client.get(path + end, headers=headers).status_code in (401, 403, 404)
        assert client.post(path + end, content=BODY, headers=headers).status_code in (401, 403, 404)


@pytest.mark.parametrize("path", ["/predict", "/v2/models/digits-student/infer"])
def test_without_a_key_a_body_is_not_waited_for(path: str, client: httpx.Client):
    """Nor kept."""
    head = f"POST {path} HTTP/1.1\r\nHost: service\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address, timeout=20) as connection:  # type: ignore[arg-type]  # it has a port
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_a_good_key_gets_an_answer(client: httpx.Client):
    """On the hot route."""
    answer = client.post("/predict", content=BODY, headers={"Authorization": f"Bearer {KEYS['predict'][0]}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_pages_of_other_origins_may_ask_only_where_it_is_said(chunked: bool, tmp_path: Path, client: httpx.Client):
    """By either way; a browser asks first, without a key."""
    write_pair(tmp_path)
    secret, line = make_key("page", ["predict"])
    options = ["--cors-origins", "https://one.example https://two.example", "--api-keys", line]
    with serving(tmp_path, free_port(), *options) as service:
        for origin, allowed in (("https://two.example", "https://two.example"), ("https://evil.example", None)):
            wish = "Access-Control-Request"
            first = {"Origin": origin, f"{wish}-Method": "POST", f"{wish}-Headers": "Authorization"}
            asked = service.request("OPTIONS", "/predict", headers=first)
            assert (asked.status_code == 200) == bool(allowed)
            assert asked.headers.get("access-control-allow-origin") == allowed
            headers = {"Origin": origin, "Authorization": f"Bearer {secret}"}
            answer = service.post("/predict", content=iter([BODY]) if chunked else BODY, headers=headers)
            assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (200, allowed)
    answer = client.post("/predict", content=BODY, headers={"Origin": "https://two.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_no_key_is_ever_logged(caplog: pytest.LogCaptureFixture):
    """Not even a wrong one."""
    with caplog.at_level(logging.DEBUG), pytest.raises(UnknownKeyError):
        read_keys(KEYS["predict"][1], None).check("Bearer sr-secret", None)
    assert "sr-secret" not in caplog.text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH (apt-get install chromium)")
def test_the_page_asks_for_a_key_once(tmp_path: Path):
    """And goes on with it; a wrong one is told."""
    secret, line = make_key("page", ["predict", "compare"])
    write_pair(tmp_path)
    with serving(tmp_path, free_port(), "--api-keys", line) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for given, text in ((secret, "digits-student"), ("sr-wrong", "is none of this service's")):
            asked: list[str] = []
            page = browser.new_context().new_page()
            page.on(
                "dialog", lambda dialog, given=given, asked=asked: (asked.append(dialog.message), dialog.accept(given))
            )
            page.goto(str(service.base_url))
            expect(page.locator("body")).to_contain_text(text, timeout=10_000)
            assert asked[0] == "This service asks for an API key (scopes predict and compare):"
            if given == secret:
                assert len(asked) == 1
        browser.close()
