"""service/encoding.py: gzip and deflate against the standard library, and never more memory than the limit."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.encoding import accepted, compressed, decompressed
from service.errors import EncodingError, MalformedError, TooLargeError


def raw_deflate(body: bytes) -> bytes:
    """Without zlib's head, as some clients send it."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


@given(st.binary(max_size=2000))
def test_what_is_packed_comes_back(body: bytes):
    """In either coding; two members of gzip are one body."""
    for coding in ("gzip", "deflate"):
        assert decompressed(compressed(body, coding), coding, 2000) == body
    assert decompressed(raw_deflate(body), "deflate", 2000) == body
    assert decompressed(gzip.compress(body) * 2, " GZip ", 4000) == body * 2
    assert decompressed(body, "identity", 1) == body


def test_a_bomb_is_refused_before_it_is_unpacked():
    """A thousand times as large as it looks."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="more than 1000000 bytes when unpacked"):
        decompressed(bomb, "gzip", 1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_body_of_just_the_limit_is_taken():
    """One byte more is not."""
    assert len(decompressed(gzip.compress(b"x" * 100), "gzip", 100)) == 100
    with pytest.raises(TooLargeError):
        decompressed(gzip.compress(b"x" * 101), "gzip", 100)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd", "x" * 99])
def test_another_coding_is_told(coding: str):
    """With what there is."""
    with pytest.raises(EncodingError, match="expected gzip or deflate"):
        decompressed(b"x", coding, 10)


def test_members_are_unpacked_in_time_that_grows_with_their_bytes():
    """Each is as short as can be; what came in between was copied for each of them. Some packers make a member of each
    64 KB; a thousand are enough for these."""
    many = gzip.compress(b"a", mtime=0) * 1024
    assert decompressed(many, "gzip", 5000) == b"a" * 1024
    with pytest.raises(MalformedError, match="it has more than 1024 parts"):
        decompressed(gzip.compress(b"", mtime=0) * 1_600_000, "gzip", 5000)
    for one in (zlib.compress(b"a"), raw_deflate(b"a")):
        assert decompressed(one, "deflate", 5000) == b"a"
        with pytest.raises(MalformedError, match="the body is not deflate"):
            decompressed(one * 2, "deflate", 5000)


HELLO = gzip.compress(b"hello", mtime=0)


@pytest.mark.parametrize("body", [b"x", HELLO[:-1], HELLO + b"junk"])
def test_a_damaged_body_is_told(body: bytes):
    """Cut short, followed by something else, or not packed at all."""
    with pytest.raises(MalformedError, match="the body is not gzip"):
        decompressed(body, "gzip", 100)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip;q=0", None),
        ("br, zstd", None),
        ("GZIP ; q=1.0", "gzip"),
        ("gzip;q=x", None),
    ],
)
def test_the_client_chooses_the_coding(header: str, coding: str | None):
    """By its quality values."""
    assert accepted(header) == coding
