"""Heads that are odd or too long: each is answered in words, and the bytes behind it are read as what they are."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.service.hostile.wire import GOOD, V2, Service, head, infer, read, send, wire

LIVE = b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n"
OFFER = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMA")
PAUSE_S = 0.02
"""After which the service has read what was sent."""


def pieces(raw: bytes, *ends: int) -> list[bytes]:
    return [raw[start:end] for start, end in zip((0, *ends), (*ends, len(raw)), strict=True)]


def test_an_offer_of_another_protocol_may_come_in_pieces(service: Service):
    """Wherever the head is cut, its body is read, and is no request of its own even where it looks like one."""
    offer = head("/predict", f"Content-Length: {len(LIVE)}", *OFFER)
    for cut in range(1, len(offer), 7):
        with wire(service) as connection:
            for piece in (*pieces(offer, cut), LIVE):
                send(connection, piece)
                time.sleep(PAUSE_S)
            status, text = read(connection)
            assert (status, "the body is not JSON" in text) == (400, True)
            send(connection, head("/predict", f"Content-Length: {len(GOOD)}") + GOOD)
            assert read(connection)[0] == 200


@pytest.mark.parametrize("before", [LIVE, b"\r\n\r\n"])
def test_an_offer_of_another_protocol_may_follow_something(before: bytes, service: Service):
    """Another request in the same piece, or empty lines; on either route, with its body in chunks too."""
    size = f"{len(GOOD):x}\r\n".encode()
    for path, body, *lines in (
        ("/predict", GOOD, f"Content-Length: {len(GOOD)}"),
        (V2, infer(), f"Content-Length: {len(infer())}"),
        ("/predict", size + GOOD + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    ):
        with wire(service) as connection:
            send(connection, before + head(path, *lines, *OFFER) + body + LIVE)
            text = ""
            while text.count('{"status":"live"}') < 1 + before.count(b"GET"):
                status, more = read(connection)
                assert status == 200
                text += more
            assert text.count("HTTP/1.1 200 OK") == 2 + before.count(b"GET")


def test_very_many_offers_at_once_are_all_answered(service: Service):
    """In the order in which they came."""
    count = 3000
    offer = "GET /health/live HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nX-Request-ID: {}\r\n\r\n"
    with wire(service) as connection:
        send(connection, "".join(map(offer.format, range(count))).encode())
        text = ""
        while text.count('{"status":"live"}') < count:
            text += connection.recv(65536).decode()
    assert re.findall(r"x-request-id: (\d+)", text) == list(map(str, range(count)))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_whole_url_is_taken_for_its_path(method: str, service: Service):
    """As a server must (RFC 9112, section 3.2.2)."""
    found = {"http://service/health/live": 200, "http://service": 200, "http://service/no?a=b": 404}
    for target, status in found.items():
        with wire(service) as connection:
            send(connection, f"{method} {target} HTTP/1.1\r\nHost: service\r\nContent-Length: 0\r\n\r\n".encode())
            expected = 405 if method == "POST" and status == 200 else status
            assert read(connection)[0] == expected
    with wire(service) as connection:
        send(connection, head("http://service/predict", f"Content-Length: {len(GOOD)}") + GOOD)
        assert read(connection)[0] == 200


@pytest.mark.parametrize("target", ["service:80", "/", "service"])
def test_it_is_no_proxy(target: str, service: Service):
    """And takes nothing of what would go through it for a request."""
    with wire(service) as connection:
        send(connection, f"CONNECT {target} HTTP/1.1\r\nHost: service\r\n\r\n".encode() + LIVE)
        status, text = read(connection)
        assert (status, "does not take CONNECT" in text) == (405, True)
        assert connection.recv(1000) == b""


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "identity"])
def test_another_transfer_coding_is_refused(coding: str, service: Service):
    """It cannot be read; as a Content-Encoding it could."""
    with wire(service) as connection:
        send(connection, head("/predict", f"Transfer-Encoding: {coding}") + b"0\r\n\r\n")
        status, text = read(connection)
        assert (status in (400, 501), '{"error":' in text) == (True, True)


@pytest.mark.parametrize("size", [66_000, 100_000, 130_000, 200_000])
@pytest.mark.parametrize("cut", [None, 10, 60_000, -5_000, -1])
@pytest.mark.parametrize("before", [b"", LIVE])
def test_a_head_has_a_limit_however_it_comes(size: int, cut: int | None, before: bytes, service: Service):
    """At once, in pieces, behind another request, whose answer may then be the last word: it is never answered."""
    raw = before + head("/health/live", f"X-Long: {'a' * size}")
    with wire(service) as connection:
        for piece in (raw,) if cut is None else pieces(raw, cut if cut > 0 else len(raw) + cut):
            send(connection, piece)
            time.sleep(PAUSE_S)
        text = ""
        while more := read(connection)[1]:
            text += more
    assert text.count("HTTP/1.1 200 OK") == bool(before)
    is_told = "the head of the request has more than 65536 bytes" in text
    assert is_told or (before and "connection: close" in text)


def test_a_head_of_just_under_the_limit_is_taken(service: Service):
    """Again and again, in pieces and at once."""
    raw = LIVE.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"a" * 65_000 + b"\r\n\r\n")
    with wire(service) as connection:
        for cut in (None, 30_000, 64_990, 12):
            for piece in (raw,) if cut is None else pieces(raw, cut):
                send(connection, piece)
                time.sleep(PAUSE_S)
            assert read(connection)[0] == 200


@pytest.mark.parametrize("inputs", [{"ab": [[1]]}, "[[", "", 5, None, {}, [{}], ["["], [{"a": [1]}], [[{}]]])
def test_inputs_of_another_kind_are_told(inputs: object, service: Service):
    """In the same words however they come: what reads the common request fast leaves these to what has the words."""
    for more in ({}, {"model": "["}, {"model": "digits-student"}):
        body = json.dumps({"inputs": inputs, **more}).encode()
        fast, slow = (service[0].post("/predict", content=content) for content in (body, iter([body])))
        assert (fast.status_code, fast.content) == (slow.status_code, slow.content)
        assert fast.status_code in (404, 422)
