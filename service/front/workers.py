"""Several worker processes behind one port: a parent accepts connections and hands them out in turn.

Each worker gets as many connections as the next one, which the kernel's own sharing of a port does not promise, and
those that wait to be accepted outlive a worker that dies; it is replaced. It knows processes and sockets, not what is
served. Workers are forked, so that they share what was imported before.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

log = logging.getLogger("service")

Work = Callable[[int, socket.socket], None]
"""What a worker does: its number, and the channel on which its connections come, one byte with each."""

RESPAWN_S = 1.0
"""A worker that dies sooner than that after its start is replaced only then."""
FULL_S = 0.01


class Worker(NamedTuple):
    """A running worker: its process, the channel to it, and when it was started."""

    pid: int
    channel: socket.socket
    started: float


def supervise(listener: socket.socket, count: int, work: Work) -> None:
    """Runs `count` workers until SIGTERM or SIGINT, then ends them, with their work done, and waits for them."""
    _Supervisor(listener, count, work).run()


class _Supervisor:
    def __init__(self, listener: socket.socket, count: int, work: Work) -> None:
        self._listener = listener
        self._work = work
        self._workers: list[Worker | None] = [None] * count
        self._turn = 0
        self._stopping = False
        self._woken, self._waker = socket.socketpair()  # a signal writes a byte, which ends the wait

    def run(self) -> None:
        for end in (self._listener, self._woken, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the wake-up is enough
        selector = selectors.DefaultSelector()
        selector.register(self._listener, selectors.EVENT_READ)
        selector.register(self._woken, selectors.EVENT_READ)
        while not self._stopping:
            self._replace_the_dead()
            ready = {key.fileobj for key, _ in selector.select(RESPAWN_S if None in self._workers else None)}
            if self._woken in ready:
                self._woken.recv(4096)
            if self._listener in ready:
                self._accept()
        self._end()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # it has gone already
            return
        except OSError as error:  # no more files may be open: what waits is accepted later
            log.error("cannot accept a connection: %s", error.strerror)
            time.sleep(RESPAWN_S)
            return
        with connection:
            while not self._stopping and not self._hand_over(connection):
                time.sleep(FULL_S)

    def _hand_over(self, connection: socket.socket) -> bool:
        """To the next worker that takes it; whether there was one."""
        for _ in self._workers:
            self._turn = (self._turn + 1) % len(self._workers)
            worker = self._workers[self._turn]
            if worker is not None:
                try:
                    socket.send_fds(worker.channel, [b"\0"], [connection.fileno()])
                except OSError:  # its channel is full, or it is dying
                    continue
                return True
        return False

    def _replace_the_dead(self) -> None:
        for index, worker in enumerate(self._workers):
            if worker is not None:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid == 0:
                    continue
                log.error("worker %d ended (%s): it is replaced", index, _how(status))
                worker.channel.close()
                self._workers[index] = None
                if time.monotonic() - worker.started < RESPAWN_S:
                    continue
            self._workers[index] = self._fork(index)

    def _fork(self, index: int) -> Worker:
        mine, its = socket.socketpair()
        mine.setblocking(False)
        pid = os.fork()
        if pid == 0:
            self._become(index, mine, its)
        its.close()
        return Worker(pid, mine, time.monotonic())

    def _become(self, index: int, mine: socket.socket, its: socket.socket) -> NoReturn:
        """In the child: lets go of what is the parent's, works, and ends."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            others = [worker.channel for worker in self._workers if worker is not None]
            for end in (self._listener, self._woken, self._waker, mine, *others):
                end.close()
            self._work(index, its)
            status = 0
        except BaseException:
            log.exception("worker %d failed", index)
        finally:
            sys.stderr.flush()
            os._exit(status)  # whatever is to be done at the parent's end is not the child's to do

    def _end(self) -> None:
        self._listener.close()
        running = [worker for worker in self._workers if worker is not None]
        for worker in running:
            worker.channel.close()  # it ends when it has no more to do
        for worker in running:
            os.waitpid(worker.pid, 0)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit status {code}"
