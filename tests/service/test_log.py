"""service/log.py: one request can be followed by its id, in text and in JSON."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from service import log
from tests.repositories import examples, write_pair
from tests.served import ROOT, free_port, running

ROWS = examples(1)[0].tolist()


@pytest.mark.parametrize("given", ["a", "3f2c-9.A_b:c/d+e=", "x" * 128])
def test_a_sane_id_is_kept(given: str):
    """So that it joins with the logs of whoever called."""
    assert log.identify(given.encode()) == given


@pytest.mark.parametrize("given", [None, b"", b"a b", b"a\nb", b"\xff", b"x" * 129, b'"'])
def test_any_other_is_replaced(given: bytes | None):
    """A log line holds no line break that a client made up; two new ids differ."""
    one, two = log.identify(given), log.identify(given)
    assert len(one) == 16
    assert one != two


def test_every_answer_tells_its_id(tmp_path: Path):
    """On the hot route and on the others, for good and for bad; the log has the same."""
    write_pair(tmp_path)
    options = ["--log-format", "json", "--access-log", "true"]
    with running(tmp_path, free_port(), *options) as (client, process):
        sent: list[tuple[str, str, int]] = []
        for index, (method, path, body) in enumerate(
            [
                ("POST", "/predict", json.dumps({"inputs": ROWS}).encode()),
                ("POST", "/predict", b"{"),
                ("POST", "/predict", iter([b"{", b"}"])),
                ("GET", "/models", None),
                ("GET", "/made-up", None),
            ]
        ):
            answer = client.request(method, path, content=body, headers={"X-Request-ID": f"mine-{index}"})
            assert answer.headers["x-request-id"] == f"mine-{index}"
            sent.append((f"mine-{index}", path, answer.status_code))
        assert len(client.get("/models").headers["x-request-id"]) == 16
        process.terminate()
        lines = [json.loads(line) for line in process.communicate(timeout=20)[1].splitlines()]
    told = [(line["request_id"], line["path"], line["status"]) for line in lines if line["logger"] == "service.access"]
    assert [entry for entry in told if entry[0].startswith("mine")] == sent
    assert all({"time", "level", "message"} <= line.keys() for line in lines)


def test_a_path_does_not_write_to_the_terminal(tmp_path: Path):
    """Nor a line of its own: what moves its cursor is shown as an escape."""
    write_pair(tmp_path)
    with running(tmp_path, free_port(), "--access-log", "true") as (client, process):
        client.get("/%1b[31mred%0dA%0ab%c2%9b")
        process.terminate()
        said = process.communicate(timeout=20)[1]
    assert r"GET /\x1b[31mred\rA\nb\x9b: 404" in said
    assert "\x1b" not in said


def test_by_default_a_request_is_no_line(tmp_path: Path):
    """At ten thousand a second it would be the most of the work."""
    write_pair(tmp_path)
    with running(tmp_path, free_port()) as (client, process):
        client.post("/predict", json={"inputs": ROWS})
        process.terminate()
        text = process.communicate(timeout=20)[1]
    assert "predict" not in text
    assert "ready: the page is" in text


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_mistake_has_its_traceback_and_the_id(kind: str):
    """In one line of JSON, where it is JSON."""
    code = (
        "import logging; from service import log\n"
        f"log.set_up({kind!r}, every_request=False)\n"
        "log.request_id.set('abc')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: logging.getLogger('service').exception('it failed')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    if kind == "text":
        assert "ERROR it failed [abc]\nTraceback" in done.stderr
    else:
        line = json.loads(done.stderr)
        assert (line["message"], line["request_id"], line["level"]) == ("it failed", "abc", "ERROR")
        assert "ZeroDivisionError" in line["exception"]


def test_importing_sets_nothing_up():
    """Only the command line does."""
    assert logging.getLogger("service").handlers == []
