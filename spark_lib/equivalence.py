"""Are two expressions the same mathematics? math-verify is asked, in processes that can be killed.

9^{9^{9^9}} hangs SymPy in a C call that no exception interrupts, and math-verify's own time limits fail off the main
thread. So `python -m spark_lib.equivalence` loads math-verify once and forks a few children that answer; the system
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
from queue import LifoQueue
from subprocess import Popen

CPU_SECONDS = 0.75  # per answer, of which honest ones need 0.01 to 0.2; a busy machine must not turn right into wrong
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
        """What math-verify says; False if it takes too long or dies of it."""
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
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        # A fixed hash seed: SymPy orders terms by hash, and a verdict should be the same in every run.
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path]), "PYTHONHASHSEED": "0"}
        ours, theirs = zip(*(socket.socketpair() for _ in range(count)), strict=True)
        fds = [end.fileno() for end in theirs]
        self.processes.append(Popen([sys.executable, "-m", __name__, *map(str, fds)], pass_fds=fds, env=env))
        for end in theirs:
            end.close()
        channels = [end.makefile("rw") for end in ours]
        if not channels[0].readline():
            raise RuntimeError("The math-verify worker did not start; python -m spark_lib.equivalence tells why")
        return channels


WORKER = Workers()
# A forked child must not talk to its parent's workers, nor wait for a lock that another thread held.
os.register_at_fork(after_in_child=WORKER.__init__)


def serve(fds: list[int]) -> None:
    """Fork a child for each socket, and another when one is killed, until all have read the end of their input."""
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from math_verify.grader import should_treat_as_complex as is_complex
    from math_verify.grader import verify as math_verify

    # Not math_verify.parse, which even inside a box looks for phrases like "final answer is $3$".
    spelling = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")

    def equivalent(*texts: str) -> bool:
        try:  # not symmetric, the reference comes first: math-verify turns the answer's form into the gold's
            trees = (latex2sympy(t, is_real=not is_complex(t), normalization_config=spelling) for t in texts)
            return bool(math_verify(*trees, allow_set_relation_comp=True, timeout_seconds=None))
        except Exception:  # noqa: BLE001 - what is no mathematics makes SymPy raise nearly anything
            return False

    def answer_all(channel) -> None:
        for line in channel:
            # The default action of both signals: the system ends this process, even inside a C call.
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            signal.alarm(WALL_SECONDS)
            verdict = equivalent(*json.loads(line))
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
    sys.stdout = sys.stderr = open(os.devnull, "w")
    for first in ("(x+1)^2", "(0.5, 3)", "x < 3"):  # each builds tables and imports; no answer should pay for that
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
