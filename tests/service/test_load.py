"""service/comparison/load.py: what a client waits, measured from when a request was to be sent.

Nothing is asserted to be quick; that a sleep is seen in full is.
"""

from __future__ import annotations

import gc
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from service.comparison import load
from service.comparison.client import schedule
from service.comparison.client.address import Target, read_url
from service.errors import BusyError, RemoteError
from tests.served import free_port
from tests.service.scripted import END, Request, answer, scripted

ASK = [b"POST /%d HTTP/1.1\r\nHost: there\r\nContent-Length: 2\r\n\r\nhi" % number for number in range(3)]
STALL_S = 0.2


def target(url: str) -> Target:
    return read_url(url)


class Stalling:
    """Serves one request at a time; the sixth takes 200 ms longer."""

    def __init__(self) -> None:
        self.one_at_a_time = threading.Lock()

    def __call__(self, request: Request) -> bytes:
        with self.one_at_a_time:
            if request.number == 5:
                time.sleep(STALL_S)
            return answer()


@pytest.mark.parametrize("connections", [1, 64])
def test_an_open_loop_shows_a_stall_in_every_request_that_was_due_meanwhile(connections: int):
    """The sixth is due at 50 ms, so nobody is answered before 250 ms: of those due every 10 ms, each waits the rest."""
    arrivals_s = np.arange(40) * 0.01
    with scripted(Stalling()) as server:
        calls = load.open_loop(target(server.url), ASK, arrivals_s, connections=connections)
    assert (calls.failures, calls.reasons, calls.intended_s.tolist()) == (0, {}, arrivals_s.tolist())
    meanwhile = slice(5, 25)
    rest_s = 0.05 + STALL_S - arrivals_s[meanwhile]
    assert (calls.latencies_s[meanwhile] >= rest_s - 0.002).all()
    assert (calls.sent_s >= arrivals_s).all()
    assert len(server.requests) == 40


def test_a_closed_loop_shows_the_same_stall_once():
    """It asks nobody meanwhile: that is why there are open loops."""
    with scripted(Stalling()) as server:
        calls = load.closed_loop(target(server.url), ASK, 0.0, 40)
    assert (len(calls.latencies_s), calls.failures, server.connections) == (40, 0, 1)
    assert np.flatnonzero(calls.latencies_s >= STALL_S).tolist() == [5]


def test_payloads_go_in_rotation():
    """Over all connections."""
    with scripted(lambda request: answer()) as server:
        load.closed_loop(target(server.url), ASK, 0.0, 5)
        load.open_loop(target(server.url), ASK, np.arange(5) * 0.02)
    paths = [request.first for request in server.requests]
    assert paths == [f"POST /{number % 3}" for number in (*range(5), *range(5))]


def test_a_closed_loop_goes_on_for_the_time_and_for_the_calls():
    """Whichever is the longer, but never beyond the longest."""
    with scripted(lambda request: time.sleep(0.01) or answer()) as server:
        there = target(server.url)
        assert len(load.closed_loop(there, ASK, 0.0, 3).latencies_s) == 3
        calls = load.closed_loop(there, ASK, 0.1, 1)
        assert calls.sent_s[-1] + calls.latencies_s[-1] >= 0.1
        assert 1 <= len(load.closed_loop(there, ASK, 0.0, 10**6, longest_s=0.05).latencies_s) <= 5


def test_the_garbage_collector_rests_meanwhile():
    """And works again after."""
    seen = []
    with scripted(lambda request: seen.append(gc.isenabled()) or answer()) as server:
        load.closed_loop(target(server.url), ASK, 0.0, 2)
        load.open_loop(target(server.url), ASK, np.zeros(2))
    assert (seen, gc.isenabled()) == ([False] * 4, True)


def test_no_arrivals_are_no_calls():
    """And an empty answer."""
    with scripted(lambda request: answer()) as server:
        calls = load.open_loop(target(server.url), ASK, np.zeros(0))
    assert (len(calls.latencies_s), calls.failures) == (0, 0)


def test_there_are_never_more_connections_than_are_allowed():
    """Ten at once over four; what waits, waits."""
    with scripted(lambda request: time.sleep(0.05) or answer()) as server:
        calls = load.open_loop(target(server.url), ASK, np.zeros(10), connections=4)
    assert (server.connections, calls.failures) == (4, 0)
    assert calls.latencies_s.max() >= 3 * 0.05


def test_a_connection_that_the_server_closed_while_it_was_idle_is_no_failure():
    """Another is opened."""
    with scripted(lambda request: answer(), close_after=True) as server:
        calls = load.open_loop(target(server.url), ASK, np.arange(3) * 0.05)
    assert (calls.failures, server.connections) == (0, 3)


def test_nobody_who_listens_is_an_error_and_later_a_failure():
    """A server that goes away in between has failures; each is told by its reason."""
    port = free_port()
    there = target(f"http://127.0.0.1:{port}")
    text = f"^http://127.0.0.1:{port}: Connection refused; expected a server that can be connected to$"
    with pytest.raises(RemoteError, match=text):
        load.closed_loop(there, ASK, 0.0, 1)
    with pytest.raises(RemoteError, match=text):
        load.open_loop(there, ASK, np.zeros(1))
    with socket.create_server(("127.0.0.1", port)) as listener:

        def once() -> None:
            with listener.accept()[0] as connection:
                listener.close()
                connection.recv(100)

        thread = threading.Thread(target=once)
        thread.start()
        calls = load.open_loop(there, ASK, np.array([0.0, 0.1]))
        thread.join()
    assert calls.reasons == {"the connection was closed without an answer": 1, "Connection refused": 1}


def test_a_closed_loop_ends_when_nothing_but_failures_comes():
    """It does not hammer for a minute at a server that is gone."""
    with scripted(lambda request: answer(status=500)) as server:
        calls = load.closed_loop(target(server.url), ASK, 60.0, 1)
    assert (calls.failures, calls.reasons) == (100, {"status 500": 100})


def test_the_commonest_reasons_are_told_apart():
    """The rest are others."""
    with scripted(lambda request: answer(status=500 + request.number // 2)) as server:
        calls = load.closed_loop(target(server.url), ASK, 0.0, 20)
    assert calls.reasons == {**{f"status {500 + number}": 2 for number in range(8)}, "others": 4}


def test_files_beyond_what_select_knows_are_not_used(monkeypatch: pytest.MonkeyPatch):
    """With many files open there are fewer connections, or none and an error."""
    with scripted(lambda request: answer()) as server:
        monkeypatch.setattr(load, "DESCRIPTORS", 0)
        with pytest.raises(BusyError, match=r"^this process holds \d+ open files or more; expected fewer"):
            load.open_loop(target(server.url), ASK, np.zeros(1))
    monkeypatch.undo()
    with scripted(lambda request: answer()) as server:
        monkeypatch.setattr(schedule, "DESCRIPTORS", 0)
        assert load.open_loop(target(server.url), ASK, np.zeros(3)).failures == 0
    assert server.connections == 1


def test_everything_is_closed_at_the_end():
    """No file is left open."""
    with scripted(lambda request: time.sleep(0.01) or answer()) as server:
        before = len(list(Path("/proc/self/fd").iterdir()))
        load.open_loop(target(server.url), ASK, np.zeros(8))
        load.closed_loop(target(server.url), ASK, 0.0, 1)
        server.close()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_large_request_is_sent_in_pieces():
    """As the socket takes it."""
    body = b"x" * 8_000_000
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with scripted(lambda request: answer()) as server:
        assert load.open_loop(target(server.url), [request], np.zeros(2)).failures == 0
        assert load.closed_loop(target(server.url), [request], 0.0, 1).failures == 0
    assert [len(each.body) for each in server.requests] == [len(body)] * 3


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For 127.0.0.1: (certificate, key)."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test -addext"
    command = ["openssl", "req", *options.split(), "subjectAltName=IP:127.0.0.1"]
    try:
        made = subprocess.run([*command, "-out", paths[0], "-keyout", paths[1]], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert made.returncode == 0, made.stderr
    return paths


def test_https_is_checked_against_the_system_s_authorities(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    """One connection after the other is opened over TLS; a certificate that nobody vouches for is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    done = threading.Event()
    with scripted(lambda request: (done.wait(5) and END) or END, tls=context) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        calls = load.closed_loop(target(server.url), ASK, 0.0, 1, timeout_s=0.1)
        done.set()
    assert calls.reasons == {"no whole answer within 0.1 s": 1}
    monkeypatch.delenv("SSL_CERT_FILE")
    with scripted(lambda request: time.sleep(0.02) or answer(b"x" * 100_000), tls=context) as server:
        with pytest.raises(RemoteError, match=r"CERTIFICATE_VERIFY_FAILED.*; expected a server"):
            load.closed_loop(target(server.url), ASK, 0.0, 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        there = target(server.url)
        assert load.closed_loop(there, ASK, 0.0, 2).failures == 0
        calls = load.open_loop(there, ASK, np.zeros(3))
    assert (len(calls.latencies_s), calls.reasons) == (3, {})


def test_ipv6_is_an_address_too():
    """In brackets."""
    try:
        with scripted(lambda request: answer(), host="::1") as server:
            assert load.open_loop(target(server.url), ASK, np.zeros(3)).failures == 0
    except OSError:
        pytest.skip("this machine has no IPv6")
