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
from dataclasses import dataclass
from typing import NoReturn

log = logging.getLogger("service")

Work = Callable[[int, socket.socket], None]
"""What a worker does: its number, and the channel on which its connections come, one byte with each."""

RESPAWN_S = 1.0
"""Between two starts of a worker: one that dies at once must not make the parent do nothing but fork."""
FULL_S = 0.01
"""Between two tries where no worker takes a connection."""
READY = b"r"
"""What a worker says on its channel as soon as it can answer."""


@dataclass
class Worker:
    """A running worker: its process, the channel to it, and whether it said that it is ready."""

    pid: int
    channel: socket.socket
    is_ready: bool = False


def supervise(listener: socket.socket, count: int, work: Work) -> None:
    """Runs `count` workers until SIGTERM or SIGINT, then ends them, with their work done, and waits for them."""
    _Supervisor(listener, count, work).run()


class _Supervisor:
    def __init__(self, listener: socket.socket, count: int, work: Work) -> None:
        self._listener = listener
        self._work = work
        self._workers: list[Worker | None] = [None] * count
        self._fork_at = [0.0] * count
        """When each may be started, on the monotonic clock."""
        self._pending: list[socket.socket] = []
        """A connection that no worker takes yet; no other is accepted meanwhile."""
        self._turn = 0
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()  # a signal writes a byte, which ends the wait

    def run(self) -> None:
        for end in (self._listener, self._woken, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the wake-up is enough
        for end in (self._listener, self._woken):
            self._selector.register(end, selectors.EVENT_READ)
        while not self._stopping:
            self._replace_the_dead()
            heard = {key.fileobj for key, _ in self._selector.select(self._patience())}
            if self._woken in heard:
                self._woken.recv(4096)
            for worker in self._workers:
                if worker is not None and worker.channel in heard:
                    self._listen_to(worker)
            if self._listener in heard and not self._pending:
                self._accept()
            while self._pending and self._hand_over(self._pending[0]):
                self._pending.pop().close()
        self._end()

    def _patience(self) -> float | None:
        """Seconds after which there is something to do even where nothing is heard."""
        if self._pending:
            return FULL_S
        starts = [at for at, worker in zip(self._fork_at, self._workers, strict=True) if worker is None]
        return max(0.0, min(starts) - time.monotonic()) if starts else None

    def _listen_to(self, worker: Worker) -> None:
        """It says that it is ready, or nothing more, since it is ending."""
        try:
            worker.is_ready = bool(worker.channel.recv(16))
        except OSError:
            worker.is_ready = False
        if not worker.is_ready:
            self._selector.unregister(worker.channel)

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
        self._pending.append(connection)

    def _hand_over(self, connection: socket.socket) -> bool:
        """To the next worker that takes it; whether there was one. While none is ready, whoever says so is asked."""
        is_any_ready = any(worker is not None and worker.is_ready for worker in self._workers)
        for _ in self._workers:
            self._turn = (self._turn + 1) % len(self._workers)
            worker = self._workers[self._turn]
            if worker is not None and (worker.is_ready or not is_any_ready):
                try:
                    socket.send_fds(worker.channel, [b"\0"], [connection.fileno()])
                except BlockingIOError:  # its channel is full
                    continue
                except OSError:  # it has ended
                    worker.is_ready = False
                    continue
                return True
        return False

    def _replace_the_dead(self) -> None:
        for index, worker in enumerate(self._workers):
            if worker is not None:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid == 0:
                    continue
                log.error("worker %d ended (%s): it is replaced", index, how(status))
                if worker.channel in self._selector.get_map():
                    self._selector.unregister(worker.channel)
                worker.channel.close()
                self._workers[index] = None
            if time.monotonic() >= self._fork_at[index]:
                self._fork_at[index] = time.monotonic() + RESPAWN_S
                self._workers[index] = self._fork(index)

    def _fork(self, index: int) -> Worker:
        mine, its = socket.socketpair()
        mine.setblocking(False)
        pid = os.fork()
        if pid == 0:
            self._become(index, mine, its)
        its.close()
        self._selector.register(mine, selectors.EVENT_READ)
        return Worker(pid, mine)

    def _become(self, index: int, mine: socket.socket, its: socket.socket) -> NoReturn:
        """In the child: lets go of what is the parent's, works, and ends."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            for connection in self._pending:
                connection.close()
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
        for connection in self._pending:
            connection.close()
        running = [worker for worker in self._workers if worker is not None]
        for worker in running:
            worker.channel.close()  # it ends when it has no more to do
        for worker in running:
            os.waitpid(worker.pid, 0)


def how(status: int) -> str:
    """How a process ended, in words, from what `waitpid` gave."""
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit status {code}"
