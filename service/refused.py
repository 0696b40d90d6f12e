"""How an error is answered, whichever route it came by: its status, its JSON and its headers. It raises nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from service.errors import BusyError, InputError, MalformedError, StillroomError, UnknownKeyError

log = logging.getLogger("service")


class Refused(NamedTuple):
    """The answer to a request that failed."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


INTERNAL = Refused(500, orjson.dumps({"error": "internal error; the log has the reason"}))
ENDING = Refused(
    503, orjson.dumps({"error": "the service is ending and had no more time for this"}), {"Retry-After": "1"}
)
"""What is not done when the drain is over is answered so."""


def refused(error: StillroomError, method: str, path: str) -> Refused:
    """One of our errors, whose text is fit for a user, as the answer to that request."""
    if error.status >= 500 and not isinstance(error, BusyError):
        log.error("%s %s: %s", method, path, error)
    # The protocol's clients know 400 for whatever a request got wrong.
    is_plain = type(error) is InputError and path.startswith("/v2/")
    status = MalformedError.status if is_plain else error.status
    headers: dict[str, str] = {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, UnknownKeyError):
        headers["WWW-Authenticate"] = "Bearer"
    return Refused(status, orjson.dumps({"error": str(error)}), headers)
