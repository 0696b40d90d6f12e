"""One server over HTTP: requests as bytes, answers, and errors that name the URL. It knows no protocol above that.

Redirects are not followed. What a key is never shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from service.comparison.client.address import Target, read_url, reason
from service.comparison.client.answers import Answers
from service.comparison.client.line import Line
from service.errors import InputError, RemoteError

JSON_LENGTH = "Inference-Header-Content-Length"
OURS = {"host", "connection", "content-length", "content-type", "transfer-encoding", "expect", JSON_LENGTH.lower()}
TEXT = 200
"""So much of a server's own words is shown."""

Headers = Iterable[tuple[str, str]]


class Server:
    """At a URL; `headers` go with every request. Raises InputError where either is none."""

    def __init__(self, url: str, headers: Headers, timeout_s: float) -> None:
        self.target: Target = read_url(url)
        self._headers = "".join(_checked(name, value) for name, value in headers)
        self._line = Line(self.target, timeout_s)

    def request(self, method: str, path: str, body: bytes = b"", json_length: int | None = None) -> bytes:
        """All the bytes; `json_length` where binary tensors follow the JSON of a body."""
        head = f"{method} {self.target.path}{path} HTTP/1.1\r\nHost: {self.target.authority}\r\n{self._headers}"
        if body:
            kind = "application/json" if json_length is None else "application/octet-stream"
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        if json_length is not None:
            head += f"{JSON_LENGTH}: {json_length}\r\n"
        return f"{head}\r\n".encode("latin-1") + body

    def get(self, path: str) -> Answers:
        """As `ask`."""
        return self.ask(path, self.request("GET", path))

    def ask(self, path: str, request: bytes) -> Answers:
        """The answer to a request, good until the next one. Raises RemoteError.

        A connection that the server closed meanwhile, without a word, is opened again once.
        """
        again = self._line.is_open
        try:
            try:
                return self._line.ask(request)
            except ConnectionError:
                if not again or self._line.answers.received:
                    raise
                return self._line.ask(request)
        except OSError as error:
            raise self.wrong(path, f"{reason(error)}; expected an answer over HTTP/1.1") from error

    def wrong(self, path: str, text: str) -> RemoteError:
        """The error for what came of a path."""
        return RemoteError(f"{self.target.url.rstrip('/')}{path}: {text}")

    def close(self) -> None:
        """The connection, until the next request."""
        self._line.close()


def said(answers: Answers) -> str:
    """What a server says went wrong, shortened."""
    if 300 <= answers.status < 400:
        return _short(f"{answers.status}, go to {answers.field('location')}: redirects are not followed")
    try:
        fields = json.loads(answers.body)
    except (ValueError, RecursionError):
        fields = None
    text = fields.get("error", fields.get("detail")) if isinstance(fields, dict) else None
    text = text if isinstance(text, str) else answers.body[: 4 * TEXT].decode(errors="replace")
    return _short(f"{answers.status} {text}".strip())


def _short(text: str) -> str:
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(line.split())
    return line if len(line) <= TEXT else f"{line[: TEXT - 3]}..."


def _checked(name: str, value: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or name.lower() in OURS:
        raise InputError(f"got the header {name[:40]!r}, expected a name that no request has by itself")
    if not re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", value):
        raise InputError(f"the value of the header {name} holds a control character or is not of Latin-1")
    return f"{name}: {value}\r\n"
