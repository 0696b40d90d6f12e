"""What the service writes to its log, and the id by which one request is found in it.

It knows lines and ids, not what happened.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from random import getrandbits
from typing import Literal

LogFormat = Literal["text", "json"]

REQUEST_ID = "X-Request-ID"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being answered, where there is one."""

access = logging.getLogger("service.access")


def identify(given: bytes | None) -> str:
    """The id that a client gave its request, where it is one that a log can hold; else a new one."""
    text = given.decode("latin-1") if given else ""
    return text if SANE.fullmatch(text) else f"{getrandbits(64):016x}"


def answered(method: str, path: str, status: int, seconds: float, identity: str) -> None:
    """One line for a request and its answer."""
    extra = {"request_id": identity, "method": method, "path": path, "status": status, "ms": round(seconds * 1e3, 3)}
    access.info("%s %s: %d in %.3f ms", method, path, status, seconds * 1e3, extra=extra)


def set_up(kind: LogFormat, *, every_request: bool) -> None:
    """Logs to the error stream, as lines of text or of JSON; of requests those that fail, or all."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if kind == "json" else _Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings are about what clients send
    access.setLevel(logging.INFO if every_request else logging.WARNING)


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        identity = _identity(record)
        line = super().formatMessage(record) + (f" [{identity}]" if identity else "")
        return CONTROL.sub(lambda found: repr(found[0])[1:-1], line)  # a path may hold them, and would forge a line


class _Json(logging.Formatter):
    FIELDS = ("method", "path", "status", "ms")

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        identity = _identity(record)
        if identity:
            line["request_id"] = identity
        line |= {name: getattr(record, name) for name in self.FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _identity(record: logging.LogRecord) -> str:
    identity: str = getattr(record, "request_id", "") or request_id.get()
    return identity
