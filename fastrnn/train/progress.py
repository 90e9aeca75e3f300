"""Progress of a training run on stderr: a bar on a terminal, a few lines elsewhere.

tqdm draws the bar if it is installed.

It must not know: training.
"""

from __future__ import annotations

import sys
import time

_WIDTH = 20  # keeps the line within 80 columns
_LINES = 8  # roughly the number of lines in a log
_PAUSE = 0.1  # seconds between two notes


class Progress:
    """A progress bar, for use in a `with` block.

    On a terminal tqdm draws the bar if it is installed, else this class draws one. Elsewhere (a
    log, a pipe) some of the steps write a line each.

    Parameters
    ----------
    total : int
        The number of steps.
    label : str
        The text in front of the bar.
    on_terminal, in_log : bool
        False shows no bar on a terminal, or no lines elsewhere.

    Examples
    --------
    >>> from fastrnn.train.progress import Progress
    >>> with Progress(2, "training") as progress:
    ...     for loss in (0.5, 0.25):
    ...         progress.step(f"loss {loss}")
    """

    def __init__(
        self, total: int, label: str, *, on_terminal: bool = True, in_log: bool = True
    ) -> None:
        self._total, self._label, self._done = total, label, 0
        self._stream = sys.stderr  # None in a process without one
        terminal = _is_terminal(self._stream)
        self._terminal = terminal and on_terminal
        self._log = self._stream is not None and not terminal and in_log
        self._drawn = time.monotonic()
        self._tqdm = None
        if self._terminal:
            self._show(self._begin_tqdm)

    def _begin_tqdm(self):
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._tqdm = tqdm(total=self._total, desc=self._label, file=self._stream)

    def _show(self, write, *args):
        """Call a function that writes. If it cannot, nothing is shown any more.

        A training must not end because its terminal was closed or the disk of its log is full.
        """
        try:
            write(*args)
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._terminal = self._log = False
            self._tqdm = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tqdm is not None:
            self._show(self._tqdm.close)
        elif self._terminal:
            self._show(self._write, "\n")

    def step(self, note: str) -> None:
        """Count a step that is done, and show `note` beside the bar.

        Parameters
        ----------
        note : str

        Examples
        --------
        >>> from fastrnn.train.progress import Progress
        >>> with Progress(1, "training") as progress:
        ...     progress.step("loss 0.5")
        """
        self._done += 1
        self._show(self._show_step, note)

    def _show_step(self, note):
        if self._tqdm is not None:
            self._tqdm.set_postfix_str(note, refresh=False)
            self._tqdm.update()
        elif self._terminal:
            self._draw(note)
        elif self._log and (
            self._done in (1, self._total) or self._done % max(1, self._total // _LINES) == 0
        ):
            self._write(f"{self._label} {self._counter()}  {note}\n")

    def note(self, note: str) -> None:
        """Show `note` during a step: only on a terminal, and at most ten times a second.

        Parameters
        ----------
        note : str

        Examples
        --------
        >>> from fastrnn.train.progress import Progress
        >>> with Progress(1, "training") as progress:
        ...     progress.note("minibatch 7")
        ...     progress.step("loss 0.5")
        """
        now = time.monotonic()
        if not self._terminal or now - self._drawn < _PAUSE:
            return
        self._drawn = now
        if self._tqdm is not None:
            self._show(self._tqdm.set_postfix_str, note, True)
        else:
            self._show(self._draw, note)

    def _counter(self):
        return f"{self._done:{len(str(self._total))}}/{self._total}"

    def _draw(self, note):
        filled = _WIDTH * self._done // max(1, self._total)
        bar = "#" * filled + "." * (_WIDTH - filled)
        self._write(f"\r{self._label} [{bar}] {self._counter()}  {note}\x1b[K")

    def _write(self, text):
        self._stream.write(text)
        self._stream.flush()


def _is_terminal(stream):
    """False too for None, for an object of the user's that only has `write`, and if closed."""
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, ValueError):
        return False
