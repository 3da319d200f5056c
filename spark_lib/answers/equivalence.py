"""Are two texts the same mathematics? mathematics.py is asked, in processes that can be killed.

A text can be made whose value takes for ever, in a C call that no exception interrupts. So worker.py loads
mathematics.py once, in a process of its own, and forks a few children that answer; the system ends a child that takes
too long, and the next is forked in milliseconds. (This needs Linux or macOS.)
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue
from subprocess import Popen

WORKER_MODULE = "spark_lib.answers.worker"  # run, not imported: it loads what this process does not need
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
        self.processes.append(Popen([sys.executable, "-m", WORKER_MODULE, *map(str, fds)], pass_fds=fds, env=env))
        for end in theirs:
            end.close()
        channels = [end.makefile("rw") for end in ours]
        if not channels[0].readline():
            raise RuntimeError(f"The verifier's worker did not start; python -m {WORKER_MODULE} tells why")
        return channels


WORKER = Workers()
# A forked child must not talk to its parent's workers, nor wait for a lock that another thread held.
os.register_at_fork(after_in_child=WORKER.__init__)
