"""How the client that puts load on a server reads its answers, and what counts as a failure."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import numpy as np
import pytest

from service.comparison import load
from service.comparison.client import answers
from tests.service.scripted import END, Request, answer, scripted
from tests.service.test_load import ASK, target

CHUNKS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nAfter: word\r\n\r\n"
)


@pytest.mark.parametrize(
    ("said", "body", "closes"),
    [
        (answer(b"abc"), b"abc", False),
        (answer(b""), b"", False),
        (answer(b"abc", head="connection: Close\r\n"), b"abc", True),
        (CHUNKS, b"abc0123456789", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"abc"), b"abc", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc", b"abc", False),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", b"", False),
        (answer(b"x" * 300_000), b"x" * 300_000, False),
    ],
)
@pytest.mark.parametrize("piece", [1, 60_000])
def test_answers_are_read_however_they_come(said: bytes, body: bytes, closes: bool, piece: int):
    """By length, in chunks, after "continue"; whole, or byte by byte. Twice on one connection."""
    here, there = socket.socketpair()
    here.setblocking(False)
    size = max(piece, len(said) // 500)
    with here, there:
        reader = answers.Answers(here)
        for _ in range(2):
            reader.expect()
            is_whole = False
            for start in range(0, len(said), size):
                assert not is_whole
                there.sendall(said[start : start + size])
                with suppress(BlockingIOError):
                    while not is_whole:
                        is_whole = reader.receive()
            assert (is_whole, reader.body, reader.closes) == (True, body, closes)


def test_one_large_answer_after_the_other_is_read():
    """The second comes with much of its body at once, since there is room for it by then."""
    body = bytes(400_000)
    said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            ours.setsockopt(socket.SOL_SOCKET, option, 2 * len(said))
            theirs.setsockopt(socket.SOL_SOCKET, option, 2 * len(said))
        reader = answers.Answers(ours)
        for _ in range(3):
            reader.expect()
            sending = threading.Thread(target=theirs.sendall, args=[said])
            sending.start()
            sending.join(timeout=0.2)  # as much as there is room for
            while not reader.receive():
                pass
            sending.join()
            assert (reader.status, reader.body) == (200, body)


def test_an_answer_without_a_length_goes_on_to_the_end():
    """As HTTP/1.0 has it; the next call opens a connection."""
    with scripted(lambda request: b"HTTP/1.0 200 OK\r\n\r\nabc", close_after=True) as server:
        closed = load.closed_loop(target(server.url), ASK, 0.0, 2)
        opened = load.open_loop(target(server.url), ASK, np.arange(2) * 0.02)
    assert (closed.failures, opened.failures, server.connections) == (0, 0, 4)


BROKEN = {
    "status 503": answer(b"busy", status=503),
    "the connection was closed without an answer": END,
    "what came is no HTTP/1.1 answer": b"220 mail.example.org ESMTP\r\n",
    "more came than one answer": answer() + b"!",
    "a chunk of the answer does not begin with its size": CHUNKS.replace(b"A\r\n", b"-5\r\n"),
}


@pytest.mark.parametrize(("why", "said"), BROKEN.items())
def test_what_is_no_good_answer_is_a_failure(why: str, said: bytes):
    """The others count: a failure never hides among latencies."""
    with scripted(lambda request: said if request.number % 2 else answer()) as server:
        closed = load.closed_loop(target(server.url), ASK, 0.0, 4)
    with scripted(lambda request: said if request.number % 2 else answer()) as server:
        opened = load.open_loop(target(server.url), ASK, np.arange(4) * 0.02)
    for calls in (closed, opened):
        assert (len(calls.latencies_s), calls.failures, calls.reasons) == (2, 2, {why: 2})
    assert opened.intended_s.tolist() == [0.0, 0.04]


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 two\r\n\r\n"])
def test_a_head_that_cannot_be_read_is_a_failure(said: bytes):
    """Of its own kind."""
    with scripted(lambda request: said) as server:
        calls = load.closed_loop(target(server.url), ASK, 0.0, 1)
    assert calls.reasons == {"what came is no HTTP/1.1 answer": 1}


def test_an_answer_that_breaks_off_is_a_failure():
    """Whatever of it had come."""
    with scripted(lambda request: answer(b"abc")[:-1], close_after=True) as server:
        calls = load.closed_loop(target(server.url), ASK, 0.0, 1)
    assert calls.reasons == {"the connection was closed in the middle of an answer": 1}


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
def test_no_whole_answer_in_time_is_a_failure(said: bytes):
    """In an open loop those who waited for the connection fail too, and everything ends on time."""
    done = threading.Event()

    def silent(request: Request) -> bytes:
        done.wait(5)
        return said or answer()

    def half(request: Request) -> bytes:
        return said

    with scripted(half if said else silent) as server:
        there = target(server.url)
        closed = load.closed_loop(there, ASK, 0.0, 1, timeout_s=0.1)
        opened = load.open_loop(there, ASK, np.array([0.0, 0.05]), connections=1, timeout_s=0.1)
        waited = load.open_loop(there, ASK, np.zeros(2), connections=1, timeout_s=0.1)
        done.set()
    assert (closed.failures, closed.reasons) == (1, {"no whole answer within 0.1 s": 1})
    assert (opened.failures, opened.reasons) == (2, {"no whole answer within 0.1 s": 2})
    assert waited.reasons == {"no whole answer within 0.1 s": 1, "no connection was free within 0.1 s": 1}
