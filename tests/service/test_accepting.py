"""Connections are taken as they come, and those that cannot be taken yet are taken later."""

from __future__ import annotations

import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.repositories import write_pair
from tests.served import free_port, running

LIVE = b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_comes_while_no_more_files_may_be_open_is_served_when_they_may(workers: str, tmp_path: Path):
    """The log says why they wait; nothing is lost."""
    write_pair(tmp_path)
    with running(tmp_path, free_port(), "--workers", workers) as (client, process):
        address = (client.base_url.host, client.base_url.port or 80)
        client.close()
        time.sleep(0.3)
        few = 3 + max(int(file.name) for file in Path(f"/proc/{process.pid}/fd").iterdir())
        _, most = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (few, most))
        connections = [socket.create_connection(address, timeout=20) for _ in range(20)]
        if workers == "2":  # the parent hands on what it takes, and holds but one: let it hold none
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, most))
            connections.append(socket.create_connection(address, timeout=20))
        time.sleep(0.5)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
        for connection in connections:
            connection.sendall(LIVE)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
            connection.close()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert "cannot accept a connection: Too many open files" in said
    assert "Traceback" not in said


def test_many_that_come_at_once_are_all_served(tmp_path: Path):
    """More than are taken at a time."""
    write_pair(tmp_path)
    with running(tmp_path, free_port()) as (client, _):
        address = (client.base_url.host, client.base_url.port or 80)
        connections = [socket.create_connection(address, timeout=20) for _ in range(200)]
        for connection in connections:
            connection.sendall(LIVE)
        for connection in connections:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
            connection.close()
