"""Where a server is, and a connection to it. It knows URLs and sockets, not what is said over them.

Everything that goes wrong between two machines is an OSError, and `reason` is its text.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from service.errors import InputError
from service.words import short

PATH = "/%:@!$&'()*+,;=~-._"
"""What a path may hold as it is."""


class Target(NamedTuple):
    """A server: `url` as it was given, `authority` for the Host header, `path` before every path, without a slash."""

    url: str
    host: str
    port: int
    authority: str
    path: str
    tls: ssl.SSLContext | None


def read_url(url: str) -> Target:
    """http or https, a host, and perhaps a port and a path. Raises InputError, which does not show a password."""
    expected = "expected http://host:port/path or https://..."
    if not url.isprintable() or " " in url or "@" in url.partition("//")[2].partition("/")[0]:
        raise InputError(f"the URL holds a space, a control character, a name or a password; {expected}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        ascii_host = host.encode("idna").decode()
    except ValueError as error:  # UnicodeError too
        raise InputError(f"got the URL {short(url)!r}: {short(str(error))}; {expected}") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InputError(f"got the URL {short(url)!r}; {expected}, without a query")
    default = 443 if parts.scheme == "https" else 80
    authority = f"[{ascii_host}]" if ":" in host else ascii_host
    if port not in (None, default):
        authority = f"{authority}:{port}"
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    path = quote(parts.path.rstrip("/"), safe=PATH)
    return Target(url, ascii_host, default if port is None else port, authority, path, tls)


def dial(target: Target, timeout_s: float) -> socket.socket:
    """A connection that sends at once what is written to it. Raises OSError."""
    try:
        plain = socket.create_connection((target.host, target.port), timeout_s)
    except TimeoutError as error:
        raise TimeoutError(f"no connection within {timeout_s:g} s") from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return target.tls.wrap_socket(plain, server_hostname=target.host) if target.tls else plain
    except OSError:
        plain.close()
        raise


def reason(error: OSError) -> str:
    """What went wrong, shortly; the same for the same cause."""
    return re.sub(r" \(_ssl\.c:\d+\)$", "", error.strerror or str(error) or type(error).__name__)
