"""Who may ask for what: API keys, which are optional, and the scope that each route needs.

It knows keys by their SHA-256 alone and compares in constant time. It does not know what routes do. A key is drawn at
random (`python -m service key`), so that a plain hash of it is safe to keep: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from service.errors import RefusedError, SettingsError, UnknownKeyError

SCOPES = ("predict", "compare", "admin")
LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):([a-z+]+):([0-9a-f]{64})")
FORM = "NAME:SCOPE+SCOPE:SHA256, as `python -m service key` prints it"
OPEN = ("/health/", "/v2/health/", "/page/")
OPEN_PAGES = frozenset({"/", "/v2", "/v2/", "/docs", "/openapi.json"})


class Key(NamedTuple):
    """One key: whose it is, what it may, and its SHA-256."""

    name: str
    scopes: frozenset[str]
    sha256: bytes


class Keys:
    """All that are known; with none of them everyone may do everything."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def draw(self, name: str, scope: str) -> str:
        """A new key, known from now on to these keys alone."""
        secret = secrets.token_urlsafe(32)
        self._keys += (Key(name, frozenset({scope}), hashlib.sha256(secret.encode()).digest()),)
        return secret

    def check(self, authorization: str | None, scope: str | None) -> None:
        """Passes whoever holds a key of that scope; any key where it is None.

        Raises UnknownKeyError and RefusedError. `authorization` is the header of that name.
        """
        if not self._keys:
            return
        kind, _, given = (authorization or "").partition(" ")
        if kind.lower() != "bearer":
            raise UnknownKeyError("this service asks for a key: send the header Authorization: Bearer KEY")
        digest, found = hashlib.sha256(given.strip().encode()).digest(), None
        for key in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None:
            raise UnknownKeyError("the key that was sent is none of this service's")
        if scope is not None and scope not in found.scopes:
            raise RefusedError(f"the key {found.name} is for {', '.join(sorted(found.scopes))}, expected {scope}")


def scope_of(method: str, path: str) -> str | None:
    """The scope that a route needs; None for what any key may see. `is_open` comes first."""
    if path == "/predict" or (path.startswith("/v2/models/") and path.endswith("/infer")):
        return "predict"
    if path == "/compare" or path.startswith("/compare/"):
        return "compare"
    if path == "/metrics" or (path.startswith("/v2/repository/models/") and method == "POST"):
        return "admin"
    return None


def is_open(path: str) -> bool:
    """Whether a page needs no key: probes, the page's files, the reference."""
    return path in OPEN_PAGES or path.startswith(OPEN)


def read_keys(text: str, file: Path | None) -> Keys:
    """Keys as settings give them: in a text, separated by white space, and in a file, one a line, # for comments.

    Raises SettingsError, naming the line, never its hash.
    """
    entries = [("--api-keys", entry) for entry in text.split()]
    if text and not entries:
        raise SettingsError(f"--api-keys: got {text!r}, which holds no key, expected {FORM}, separated by spaces")
    if file is not None:
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--api-keys-file: cannot read {str(file)!r}: {error}") from error
        stripped = [(f"{file}, line {number}", line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
        entries += [(place, line) for place, line in stripped if line]
        if not entries:
            raise SettingsError(f"--api-keys-file: {str(file)!r} holds no key, expected lines of {FORM}")
    return Keys(_key(place, entry) for place, entry in entries)


def _key(place: str, entry: str) -> Key:
    found = LINE.fullmatch(entry)
    if found is None:
        raise SettingsError(f"{place}: not a key, expected {FORM}")
    scopes = frozenset(found[2].split("+"))
    if not scopes <= set(SCOPES):
        raise SettingsError(f"{place}: {found[1]} has the scopes {found[2]}, expected some of {', '.join(SCOPES)}")
    return Key(found[1], scopes, bytes.fromhex(found[3]))


def make_key(name: str, scopes: Iterable[str]) -> tuple[str, str]:
    """A new key, and the line that makes it known. Raises SettingsError for a name or a scope that cannot be."""
    secret = f"sr-{secrets.token_urlsafe(32)}"
    line = f"{name}:{'+'.join(scopes)}:{hashlib.sha256(secret.encode()).hexdigest()}"
    _key("key", line)
    return secret, line
