"""Clients whose connections mean no good: each gets an answer or the end of its connection; nobody else notices."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.repositories import write_pair
from tests.served import free_port, running
from tests.service.hostile.wire import GOOD, V2, Service, head, infer, read, send, wire


def chunks(count: int) -> bytes:
    spaces = b"1\r\n \r\n" * (count - len(GOOD))
    return spaces + b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n"


@pytest.mark.parametrize("count", [65_537, 1_000_000])
def test_a_body_in_very_many_chunks_is_read(count: int, service: Service):
    """One byte each."""
    with wire(service) as connection:
        send(connection, head("/predict", "Transfer-Encoding: chunked") + chunks(count))
        connection.settimeout(60)
        assert read(connection)[0] == 200


def test_a_byte_a_second_ends_at_the_time_limit(service: Service):
    """Meanwhile others are answered."""
    with wire(service) as slow:
        send(slow, head("/predict", f"Content-Length: {len(GOOD)}"))
        started = time.monotonic()
        slow.settimeout(1)
        while time.monotonic() - started < 10:
            send(slow, b" ")
            assert service[0].post("/predict", content=GOOD).status_code == 200
            try:
                status, text = read(slow)
            except TimeoutError:
                continue
            break
    assert (status, time.monotonic() - started < 8) == (408, True)
    assert "the request was not whole within 2 s" in text


@pytest.mark.parametrize("sent", [b"", b"POST", b"POST /predict HTTP/1.1\r\nHost: service\r\nX-Slow: "])
def test_a_connection_that_says_nothing_or_never_ends_its_head_is_closed(sent: bytes, service: Service):
    """At the time limit, with an id by which the log knows it, as every answer has."""
    with wire(service) as connection:
        send(connection, sent)
        status, text = read(connection)
        assert status == 408
        assert re.search(r"\r\nx-request-id: [0-9a-f]{16}\r\n", text)


def test_more_connections_than_there_may_be_are_turned_away(service: Service):
    """With a word; those that were there before are not."""
    url = service[0].base_url
    connections = [socket.create_connection((url.host, url.port or 80), timeout=20) for _ in range(60)]
    try:
        connections[0].sendall(head("/predict", f"Content-Length: {len(GOOD)}") + GOOD)
        assert read(connections[0])[0] == 200
        status, text = read(connections[-1])
        assert status == 503
        assert "50 connections are open already, the most that there may be: try again" in text
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_head_without_an_end_is_refused(at_once: bool, service: Service):
    """In one header or in many, sent at once or not."""
    for lines in (b"X-Long: " + b"a" * 300_000, b"X: y\r\n" * 50_000):
        raw = b"POST /predict HTTP/1.1\r\nHost: service\r\n" + lines + b"\r\nContent-Length: 0\r\n\r\n"
        with wire(service) as connection:
            for start in range(0, len(raw), len(raw) if at_once else 10_000):
                send(connection, raw[start : start + (len(raw) if at_once else 10_000)])
            assert read(connection)[0] in (431, 0)  # 0: it was closed while more was being sent


@pytest.mark.parametrize(
    "raw",
    [
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: 0x10\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        b"POST /predict HTTP/1.1\r\nX\0Y: a\r\n\r\n",
        b"POST http://[ HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(raw: bytes, service: Service):
    """And is no way to smuggle a second request in."""
    with wire(service) as connection:
        send(connection, raw + GOOD)
        assert read(connection)[0] == 400


@pytest.mark.parametrize("more", [-20, 20])
def test_a_content_length_that_lies(more: int, service: Service):
    """Too short: the rest is no request. Too long: the time limit ends it."""
    with wire(service) as connection:
        send(connection, head("/predict", f"Content-Length: {len(GOOD) + more}") + GOOD)
        assert read(connection)[0] == (400 if more < 0 else 408)


def test_disconnects_at_every_point_leave_nothing_behind(service: Service):
    """No file descriptor either."""
    files = Path(f"/proc/{service[1].pid}/fd")
    before = len(list(files.iterdir()))
    raw = head("/predict", f"Content-Length: {len(GOOD)}") + GOOD
    chunked = head("/predict", "Transfer-Encoding: chunked") + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n"
    for request in (raw, chunked):
        for end in range(0, len(request), 41):
            with wire(service) as connection:
                send(connection, request[:end])
    time.sleep(0.5)
    assert len(list(files.iterdir())) <= before + 5


@pytest.mark.parametrize("trailer", [b"X: y\r\n", b"a"])
def test_trailers_without_an_end_are_refused(trailer: bytes, service: Service):
    """In many of them or in one; nothing of them becomes a header."""
    with wire(service) as connection:
        send(connection, head("/predict", "Transfer-Encoding: chunked") + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n")
        for _ in range(100):
            send(connection, trailer * (100_000 // len(trailer)))
        assert read(connection)[0] in (431, 0)


def test_a_trailer_is_no_header(service: Service):
    """It would change how the body that came before it is read."""
    with wire(service) as connection:
        body = b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\nContent-Encoding: br\r\nX-Request-ID: evil\r\n\r\n"
        send(connection, head("/predict", "Transfer-Encoding: chunked") + body)
        status, text = read(connection)
    assert (status, "evil" in text) == (200, False)


def test_connections_leave_nothing_behind(service: Service):
    """Two hundred with a large body each, whole and broken off: as if there had been one."""
    body = GOOD + b" " * 400_000
    for index in range(200):
        with wire(service) as connection:
            send(connection, head("/predict", f"Content-Length: {len(body)}") + body[: None if index % 2 else -10])
            if index % 2:
                assert read(connection)[0] == 200


def test_an_empty_line_does_not_keep_a_connection_for_ever(service: Service):
    """It ends the keep-alive timer, and begins the one of a request."""
    with wire(service) as connection:
        send(connection, head("/predict", f"Content-Length: {len(GOOD)}") + GOOD)
        assert read(connection)[0] == 200
        send(connection, b"\r\n")
        assert read(connection)[0] == 408


def test_a_client_that_never_reads_is_let_go(service: Service):
    """At the time limit, whatever it sent."""
    request = head(V2, f"Content-Length: {len(infer())}") + infer()
    with wire(service) as connection:
        connection.settimeout(0.5)
        with suppress(TimeoutError):
            while True:
                send(connection, request * 100)
        connection.settimeout(20)
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 15:
                connection.sendall(request)
                time.sleep(0.1)
        assert time.monotonic() - started < 10


def test_what_is_wrong_behind_a_good_request_does_not_take_its_answer(service: Service):
    """Neither garbage nor a half request that is never ended; the first one here takes longer than the time limit."""
    slow = b'{"blocks": 3, "scenarios": []}'
    for rest in (b"\0\0\0\r\n\r\n", b"POST /predict HTTP/1.1\r\nHost: x\r\n"):
        with wire(service) as connection:
            send(connection, head("/compare", f"Content-Length: {len(slow)}") + slow + rest)
            status, text = read(connection)
            assert (status, '"pairs"' in text) == (200, True)


@pytest.mark.parametrize("name", ["Upgrade", "UPGRADE", "upgrade"])
def test_an_offer_of_another_protocol_is_passed_over(name: str, service: Service):
    """As curl and Java make with a first request; its body is read, and so is the next request."""
    lines = (
        f"Content-Length: {len(GOOD)}",
        f"{name}: h2c",
        "Connection: Upgrade, HTTP2-Settings",
        "HTTP2-Settings: AAMA",
    )
    with wire(service) as connection:
        send(connection, head("/predict", *lines) + GOOD)
        assert read(connection)[0] == 200
        send(connection, head("/predict", f"Content-Length: {len(GOOD)}") + GOOD)
        assert read(connection)[0] == 200


def test_bodies_that_are_never_whole_share_a_limit(tmp_path: Path):
    """On the hot routes as on the others; when their clients have gone there is room again."""
    write_pair(tmp_path)
    part = b" " * 90_000
    raw = head("/predict", "Content-Length: 100000") + part
    with running(tmp_path, free_port(), "--max-body-bytes", "100000") as service:
        for _ in range(3):
            with ExitStack() as opened:
                connections = [opened.enter_context(wire(service)) for _ in range(12)]
                for connection in connections:
                    send(connection, raw)
                    time.sleep(0.02)
                status, text = read(connections[-1])
                assert (status, "the bodies of all requests hold more than 800000 bytes" in text) == (503, True)
                assert "retry-after: 1" in text
            time.sleep(0.2)
            assert service[0].post("/predict", content=GOOD + part).status_code == 200
