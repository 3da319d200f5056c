"""What goes on, for whoever waits: a bar where stderr is a terminal, plain lines where it is a file or a pipe.

A bar stands for one piece of work and is gone when that is done; what is to stay is said in a line on stdout. A log
file gets no control characters: there a bar that announces itself is one line at its beginning, any other none. Of
several processes (torchrun and accelerate number them in RANK) only the first one speaks.
"""

import os
import sys

from tqdm import tqdm


def speaks() -> bool:
    return os.environ.get("RANK", "0") == "0"


def draws() -> bool:
    return speaks() and sys.stderr.isatty()


def say(text: str) -> None:
    """A line, above the bars; at once, also into a file that somebody follows."""
    if speaks():
        tqdm.write(text)
        sys.stdout.flush()


class Bar(tqdm):
    """tqdm's bar, which can also count sampling: its tokens and the responses that have ended stand beside the bar."""

    tokens = ended = 0

    def count(self, tokens: int, ended: int, came: float) -> None:
        """See decode."""
        self.tokens, self.ended = self.tokens + tokens, self.ended + ended
        self.set_postfix_str(f"{self.ended:,} of {self.total:,} responses, {self.tokens:,} tokens", refresh=False)
        self.update(came)

    def restart(self) -> None:
        self.tokens = self.ended = 0
        self.reset()


def bar(what: str, total: int, unit: str, done: int = 0, delay: float = 0.0, announce: bool = True) -> Bar:
    """A bar named `what` over `total` units, `done` of them already; a context manager. It appears after `delay`
    seconds, if it is still needed then, and is no more than a line or nothing where no bar can be drawn."""
    if announce and total and not draws():
        say(f"{what}, {total:,} {unit}{'s' * (total > 1)}")
    shape = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}" if unit == "response" else None
    # smoothing=0: by the mean speed, as responses end in bursts. miniters=0: looks at the clock at every count.
    return Bar(desc=what, total=total, initial=done, unit=unit, delay=delay, disable=not draws() or not total,
               leave=False, miniters=0, smoothing=0, dynamic_ncols=True, bar_format=shape)
