"""Content codings of bodies: gzip and deflate, both ways (RFC 9110, section 8.4). It knows no routes."""

from __future__ import annotations

import gzip
import zlib

from service.errors import EncodingError, MalformedError, TooLargeError

CODINGS = ("gzip", "deflate")
WORTH_BYTES = 1400
"""An answer up to this size is one packet anyway."""
GZIP_OR_ZLIB, RAW = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS
MOST_MEMBERS = 1024
"""Of a gzip body: those that pack in parallel make one of each 64 KB or more. Deflate has but one (RFC 1950, 1951)."""
PIECE = 2**14
"""Bytes that are unpacked at a time."""


def decompressed(raw: bytes, coding: str, max_bytes: int) -> bytes:
    """A body as it was before its Content-Encoding. At most `max_bytes` of it are ever held.

    Raises EncodingError (a coding that there is not), MalformedError (damaged) and TooLargeError.
    """
    coding = coding.strip().lower()
    if coding in {"", "identity"}:
        return raw
    if coding not in {*CODINGS, "x-gzip"}:
        raise EncodingError(f"Content-Encoding: got {coding[:40]!r}, expected {' or '.join(CODINGS)}")
    try:
        return _inflated(raw, GZIP_OR_ZLIB, max_bytes, 1 if coding == "deflate" else MOST_MEMBERS)
    except zlib.error as error:
        if coding == "deflate":  # some send it without zlib's head
            try:
                return _inflated(raw, RAW, max_bytes, 1)
            except zlib.error:
                pass
        raise MalformedError(f"the body is not {coding}, as its Content-Encoding says: {error}") from error


def _inflated(raw: bytes, wbits: int, max_bytes: int, most_members: int) -> bytes:
    """All members of a stream, one after the other.

    It is read piece by piece: what is left behind a member's end is copied, and members may be as short as 20 bytes.
    """
    parts: list[bytes] = []
    left, at, members, stream = max_bytes + 1, 0, 0, None
    while at < len(raw):
        if stream is None:
            stream, members = zlib.decompressobj(wbits), members + 1
            if members > most_members:
                raise zlib.error(f"it has more than {most_members} parts")
        piece = memoryview(raw)[at : at + PIECE]
        parts.append(stream.decompress(piece, left))
        left -= len(parts[-1])
        if left <= 0 or stream.unconsumed_tail:
            raise TooLargeError(f"the body holds more than {max_bytes} bytes when unpacked, the most that is taken")
        at += len(piece) - len(stream.unused_data)
        if stream.eof:
            stream = None
    if stream is not None:
        raise zlib.error("it is cut short")
    return b"".join(parts)


def accepted(header: str) -> str | None:
    """The coding of ours that an Accept-Encoding likes best; None for the body as it is."""
    liking = {"gzip": 0.0, "deflate": 0.0}
    for item in header.lower().split(","):
        coding, *parameters = (part.strip() for part in item.split(";"))
        quality = next((_quality(part) for part in parameters if part.startswith("q=")), 1.0)
        if coding in liking:
            liking[coding] = quality
    best = max(CODINGS, key=lambda coding: liking[coding])  # of equals the first
    return best if liking[best] > 0.0 else None


def _quality(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 0.0


def compressed(raw: bytes, coding: str) -> bytes:
    """A body in one of CODINGS, quickly rather than tightly."""
    return gzip.compress(raw, compresslevel=1, mtime=0) if coding == "gzip" else zlib.compress(raw, level=1)
