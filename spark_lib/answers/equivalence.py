"""Are two texts the same mathematics? mathematics.py is asked, in processes that can be killed.

A text can be made whose value takes for ever, in a C call that no exception interrupts. So
`python -m spark_lib.answers.equivalence` loads mathematics.py once and forks a few children that answer; the system
ends a child that takes too long, and the next is forked in milliseconds. (This needs Linux or macOS.)
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue
from subprocess import Popen

CPU_SECONDS = 0.75  # per answer, of which honest ones need 0.001 to 0.02; a busy machine must not turn right into wrong
WALL_SECONDS = 30  # per answer; a backstop for what waits without working, such as a machine that swaps
WORKERS = min(4, max(2, os.cpu_count() or 1))  # answers at the same time: a hostile one holds up only one worker


class Workers:
    """Children of one process, started when first needed; they end with this process.

    A plain subprocess, because multiprocessing would either fork a multi-threaded PyTorch or run the user's script
    again in the child. JSON lines over a socket per child: [reference, answer] in, true or false out.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.processes: list[Popen] = []
        self.idle: LifoQueue = LifoQueue()  # a channel per worker; None: it was lost

    def equivalent(self, reference: str, answer: str) -> bool:
        """What mathematics.py says of two tidied texts; False if it takes too long or dies of it."""
        with self.lock:
            if not self.processes:
                for channel in self._start(WORKERS):
                    self.idle.put(channel)
        channel, kept = self.idle.get(), None
        try:
            for _ in range(2):  # if someone else killed the worker, that says nothing about the answer
                channel, kept, reply = channel or self._start(1)[0], None, ""
                with suppress(OSError):  # of a socket whose processes are all dead
                    print(json.dumps([reference, answer]), file=channel, flush=True)
                    reply = channel.readline()
                channel = kept = channel if reply else None
                if reply and reply != "null\n":
                    return json.loads(reply)
            return False
        finally:  # after a KeyboardInterrupt the channel is given up: no later answer may get the unread reply
            self.idle.put(kept)

    def _start(self, count: int) -> list:
        """The channels to `count` children of a new process. Raises RuntimeError if it does not start."""
        root = str(Path(__file__).resolve().parents[2])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
        ours, theirs = zip(*(socket.socketpair() for _ in range(count)), strict=True)
        fds = [end.fileno() for end in theirs]
        self.processes.append(Popen([sys.executable, "-m", __name__, *map(str, fds)], pass_fds=fds, env=env))
        for end in theirs:
            end.close()
        channels = [end.makefile("rw") for end in ours]
        if not channels[0].readline():
            raise RuntimeError("The verifier's worker did not start; python -m spark_lib.answers.equivalence tells why")
        return channels


WORKER = Workers()
# A forked child must not talk to its parent's workers, nor wait for a lock that another thread held.
os.register_at_fork(after_in_child=WORKER.__init__)


def serve(fds: list[int]) -> None:
    """Fork a child for each socket, and another when one is killed, until all have read the end of their input."""
    from spark_lib.answers.mathematics import equivalent

    def answer(texts: list[str]) -> bool:
        try:
            return equivalent(*texts)
        except Exception:  # noqa: BLE001 - a text that makes it fail is no answer, and must not end the worker
            return False

    def answer_all(channel) -> None:
        for line in channel:
            # The default action of both signals: the system ends this process, even inside a C call.
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            signal.alarm(WALL_SECONDS)
            verdict = answer(json.loads(line))
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            print(json.dumps(verdict), file=channel, flush=True)

    def fork(fd: int) -> int:
        if pid := os.fork():
            return pid
        for other in set(fds) - {fd}:
            os.close(other)
        answer_all(socket.socket(fileno=fd).makefile("rw"))
        os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which then closes our input
    for first in ("(x+1)^{2}", r"\sqrt{2}", "x < 3"):  # each builds tables; no answer should pay for that
        equivalent(first, first)
    os.write(fds[0], b"ready\n")
    children = {fork(fd): fd for fd in fds}
    while children:
        pid, status = os.wait()
        fd = children.pop(pid)
        if os.WIFSIGNALED(status):
            late = os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
            with suppress(OSError):  # nobody listens any more
                os.write(fd, b"false\n" if late else b"null\n")  # null: ask again
            children[fork(fd)] = fd


if __name__ == "__main__":
    serve([int(fd) for fd in sys.argv[1:]])
