"""How far a training run is: a bar on a terminal, a few lines elsewhere, always on stderr."""

import sys

try:
    from tqdm import tqdm
except ImportError:
    tqdm = None

_WIDTH = 20  # keeps the line within 80 columns
_LINES = 8  # roughly how many a log gets


class Progress:
    """Use as `with Progress(40, "training") as progress: ...; progress.step("loss 0.1")`.

    On a terminal tqdm draws the bar where it is installed, and this class where it is not.
    Elsewhere (a log, a pipe) some of the steps become a line each.

    Parameters
    ----------
    total : int
        Steps to come.
    label : str
        What stands in front of the bar.
    """

    def __init__(self, total, label):
        self._total, self._label, self._done = total, label, 0
        self._stream = sys.stderr
        self._terminal = self._stream.isatty()
        self._tqdm = None
        if self._terminal and tqdm is not None:
            self._tqdm = tqdm(total=total, desc=label, file=self._stream)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._tqdm is not None:
            self._tqdm.close()
        elif self._terminal:
            self._stream.write("\n")

    def step(self, note):
        """One more step is done; show `note` beside it."""
        self._done += 1
        if self._tqdm is not None:
            self._tqdm.set_postfix_str(note, refresh=False)
            self._tqdm.update()
            return
        counter = f"{self._done:{len(str(self._total))}}/{self._total}"
        if self._terminal:
            filled = _WIDTH * self._done // self._total
            bar = "#" * filled + "." * (_WIDTH - filled)
            self._stream.write(f"\r{self._label} [{bar}] {counter}  {note}\x1b[K")
        elif self._done in (1, self._total) or self._done % max(1, self._total // _LINES) == 0:
            self._stream.write(f"{self._label} {counter}  {note}\n")
        self._stream.flush()
