"""The progress of a training: a bar on a terminal, few lines in a log, nothing on request."""

import io
import sys
import types

import pytest

from fastrnn.train import progress as progress_module
from fastrnn.train.progress import Progress

pytestmark = pytest.mark.no_kernels


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    return stream


def test_a_terminal_has_a_bar(monkeypatch):
    terminal = terminal_without_tqdm(monkeypatch)
    with Progress(4, "work") as progress:
        for _ in range(4):
            progress.step("loss 1")
    drawn = terminal.getvalue()
    assert drawn.count("\r") == 4 and drawn.endswith("\n") and drawn.count("\n") == 1
    assert "4/4  loss 1" in drawn and "#" * 20 in drawn


def test_notes_within_a_step_are_drawn_some_times_a_second(monkeypatch):
    terminal = terminal_without_tqdm(monkeypatch)
    clock = iter(range(100))
    fake = types.SimpleNamespace(monotonic=lambda: 0.04 * next(clock))
    monkeypatch.setattr(progress_module, "time", fake)
    with Progress(2, "work") as progress:
        for index in range(7):
            progress.note(f"minibatch {index}")
    drawn = terminal.getvalue()
    assert [f"0/2  minibatch {index}" in drawn for index in range(7)] == [
        False, False, True, False, False, True, False
    ]  # fmt: skip


def test_tqdm_draws_where_it_is_installed(monkeypatch):
    calls = []

    class Tqdm:
        def __init__(self, **options):
            calls.append(options["total"])

        def set_postfix_str(self, text, refresh):
            calls.append((text, refresh))

        def update(self):
            calls.append("update")

        def close(self):
            calls.append("close")

    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Tqdm))
    monkeypatch.setattr(progress_module, "_PAUSE", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(1, "work") as progress:
        progress.note("minibatch 1")
        progress.step("loss 1")
    assert calls == [1, ("minibatch 1", True), ("loss 1", False), "update", "close"]


def test_tqdm_itself_takes_it(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(progress_module, "_PAUSE", 0)
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with Progress(2, "work") as progress:
        progress.note("minibatch 1")
        progress.step("loss 1")
    assert "minibatch 1" in stream.getvalue() and "1/2" in stream.getvalue()


def test_a_log_gets_few_lines(capsys):
    with Progress(1000, "work") as progress:
        for _ in range(1000):
            progress.note("never")
            progress.step("x")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work    1/1000  x" and lines[-1] == "work 1000/1000  x"
    assert len(lines) < 12


@pytest.mark.parametrize(
    "stream", [Terminal(), io.StringIO(), None], ids=["terminal", "log", "none"]
)
def test_it_can_be_silent(stream, monkeypatch):
    monkeypatch.setattr(progress_module, "_PAUSE", 0)
    monkeypatch.setattr(sys, "stderr", stream)
    silent = {"on_terminal": False, "in_log": False} if stream is not None else {}
    with Progress(2, "work", **silent) as progress:
        progress.note("minibatch 1")
        progress.step("x")
    assert stream is None or stream.getvalue() == ""


class Stream:
    """A stream of the user's own. gone : what it raises when it is written to, or None."""

    def __init__(self, is_terminal=None, gone=None):
        self.gone = gone
        if is_terminal is not None:
            self.isatty = lambda: is_terminal

    def write(self, text):
        if self.gone is not None:
            raise self.gone
        return len(text)

    def flush(self):
        pass


def closed(stream):
    stream.close()
    return stream


@pytest.mark.parametrize("with_tqdm", [False, True])
@pytest.mark.parametrize(
    "stream",
    [
        None, Stream(), closed(io.StringIO()), Stream(True, BrokenPipeError()),
        Stream(True, OSError(5, "the terminal is gone")), Stream(False, OSError(28, "disk full")),
    ],
    ids=["none", "of one's own", "closed", "pipe", "terminal gone", "disk full"],
)  # fmt: skip
def test_a_stream_that_cannot_be_written_to_does_not_end_a_training(stream, with_tqdm, monkeypatch):
    if with_tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", stream)
    for options in ({}, {"on_terminal": False}, {"in_log": False}):
        with Progress(2, "work", **options) as progress:
            progress._drawn -= 1  # so that the note is shown
            progress.note("minibatch 1")
            progress.step("loss 1")
            progress.step("loss 0.5")
