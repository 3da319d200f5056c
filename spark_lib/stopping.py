"""How a script ends: signals, closed pipes, full disks. One line for the user, never a traceback.

Exit codes: 0 after the first Ctrl-C of a run, whose work is then saved; 130 after a second one, or where there is
nothing to save; 143 after SIGTERM (SLURM, docker stop) and 129 after SIGHUP (the terminal is gone); 1 after an error.
"""

import contextlib
import errno
import os
import shlex
import signal
import sys
from collections.abc import Callable

import torch

from spark_lib.config import ConfigError

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
NO_WRITING = {errno.ENOSPC: "make space", errno.EDQUOT: "make space", errno.EFBIG: "raise the limit on a file's size"}


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, as Ctrl-C is KeyboardInterrupt: no `except Exception` takes it for an error."""


def interruption(signum: int) -> KeyboardInterrupt:
    """The exception that ends a script at once after the signal."""
    return (KeyboardInterrupt if signum == signal.SIGINT else Terminated)(signum)


def exit_code(signum: int) -> int:
    """As shells count: 128 + the signal's number."""
    return 128 + signum


@contextlib.contextmanager
def on_signal(handler: Callable):
    """Within this block handler(signum, frame) takes Ctrl-C, SIGTERM and SIGHUP, unless nohup has that one ignored."""
    taken = [s for s in SIGNALS if s == signal.SIGINT or signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, handler) for s in taken}
    try:
        yield
    finally:
        for s, previous in before.items():
            signal.signal(s, previous)


class Stop:
    """What the signals want of a run. The first one is a wish, granted at the end of the step or, outside of steps, at
    once, as there is nothing there to wait for; the second one ends the run as it stands.

    alone: there is one process. Several leave together, at the end of a step.
    """

    def __init__(self, alone: bool):
        self.alone, self.signum, self.again, self.in_step = alone, 0, False, False

    def __enter__(self) -> "Stop":
        self.handlers = on_signal(self.take)
        self.handlers.__enter__()
        return self

    def __exit__(self, *_) -> None:
        self.handlers.__exit__(None, None, None)

    def take(self, signum: int, _) -> None:
        self.again, self.signum = bool(self.signum), self.signum or signum
        if self.again or self.alone and not self.in_step:
            raise interruption(signum)
        tell("stopping after this step with a checkpoint; a second signal stops at once")

    @contextlib.contextmanager
    def waiting(self):
        """Within this block, a step, the first signal waits."""
        self.in_step = True
        try:
            yield
        finally:
            self.in_step = False

    def wished(self, kind: type | None) -> bool:
        """Whether the run ends by a first signal. kind: of the exception that ends it, if one does."""
        return bool(self.signum) and not self.again and (kind is None or issubclass(kind, KeyboardInterrupt))

    def leave(self) -> None:
        """End the script with the signal's exit code; Ctrl-C's is 0, as all went as it was wished."""
        if self.signum != signal.SIGINT:
            raise SystemExit(exit_code(self.signum))


def tell(text: str) -> None:
    """Write a line to stderr from within a signal's handler, where print may be at work already."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode("ascii", "replace"))


class Output:
    """A text stream whose reader may go away (`| head`), whose disk may fill up and whose encoding may lack a letter:
    what cannot be written is left out, and the work goes on."""

    def __init__(self, stream):
        self.stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self.forgiving():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self.forgiving():
            self.stream.flush()

    @contextlib.contextmanager
    def forgiving(self):
        try:
            yield
        except OSError:  # the rest of its buffer would fail again at every later write, and at exit
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def open_streams() -> None:
    """Make sys.stdout and sys.stderr Outputs; a script may be started with them closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")
        if not isinstance(stream, Output):
            setattr(sys, name, Output(stream))


def go_on(folder) -> str:
    """The command that goes on with a run, to be pasted into a shell."""
    return "python train.py " + shlex.quote(f"resume={folder}")


def disk_error(error: OSError, place: object) -> ConfigError:
    """One line for a file that cannot be written or read. place: the folder that was written to."""
    advice = f"; {NO_WRITING[error.errno]}" if error.errno in NO_WRITING else ""
    return ConfigError(f"{error.filename or place}: {error.strerror or error}{advice}")


def run_script(main: Callable[[list[str]], None]) -> None:
    """main(the command line), and whatever it ends with as one line and an exit code."""
    open_streams()

    def end(signum, _):
        raise interruption(signum)

    try:
        with on_signal(end):
            main(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stop:
        signum = stop.args[0] if stop.args else signal.SIGINT
        tell("stopped at once; evaluate.py goes on with the same command, train.py with resume=<run>")
        sys.exit(exit_code(signum))
    except OSError as error:
        sys.exit(f"error: {disk_error(error, 'a file')}")
    except torch.OutOfMemoryError:
        sys.exit("error: out of GPU memory outside of sampling and gradients; plan=true shows what takes how much")
