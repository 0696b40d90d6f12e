"""What tests of hostile clients share: bare connections, and what is sent on them; what comes back must not leak."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

from tests.repositories import examples

INPUTS, _ = examples(1)


GOOD = json.dumps({"inputs": INPUTS.tolist()}).encode()


V2 = "/v2/models/digits-student/infer"


SECRETS = re.compile(r"Traceback|File \"|site-packages|/tmp/|/home|/root|pytest-|\.py\b")


Service = tuple[httpx.Client, subprocess.Popen[str]]


@contextmanager
def wire(service: Service) -> Iterator[socket.socket]:
    url = service[0].base_url
    with socket.create_connection((url.host, url.port or 80), timeout=20) as connection:
        yield connection


def read(connection: socket.socket) -> tuple[int, str]:
    """The status and the rest of what comes until the service closes or has answered; 0 where nothing comes."""
    raw = b""
    try:
        while part := connection.recv(65536):
            raw += part
            head, _, body = raw.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if length and len(body) >= int(length[1]):
                break
    except ConnectionError:
        pass
    status = int(raw.split(b" ", 2)[1]) if raw.startswith(b"HTTP/1.1 ") else 0
    assert not SECRETS.search(raw.decode("latin-1"))
    return status, raw.decode("latin-1")


def send(connection: socket.socket, raw: bytes) -> None:
    """All of it, or as much as the service takes."""
    with suppress(ConnectionError):
        connection.sendall(raw)


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: service", *headers, "", ""]).encode()


def infer(**changes: object) -> bytes:
    given = {"name": "input", "shape": [1, 64], "datatype": "FP32", "data": [0] * 64, **changes}
    return json.dumps({"inputs": [{key: value for key, value in given.items() if value is not None}]}).encode()
