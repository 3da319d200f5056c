"""The process behind equivalence.py: it answers whether two texts are the same mathematics, in children of its own.

    python -m spark_lib.answers.worker FD…
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress

from spark_lib.answers.equivalence import CPU_SECONDS, WALL_SECONDS
from spark_lib.answers.mathematics import equivalent


def serve(fds: list[int]) -> None:
    """Fork a child for each socket, and another when one is killed, until all have read the end of their input."""

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
