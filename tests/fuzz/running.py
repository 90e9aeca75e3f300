"""Runs cases: each under a watchdog, in watched memory, with what it failed of in words."""

import faulthandler
import traceback
import warnings

import numpy as np

from . import answers, buffers, cases, forms, machines, parts, repeats, streams
from .relations import RELATIONS, compute

WAYS = machines, repeats, forms, parts, streams  # which have put their relations into the table

SECONDS_OF_A_CASE = 90

_WEIGHTS = {name: (has_meaning, weight) for name, (has_meaning, weight, _) in RELATIONS.items()}


def drawn(seed, number):
    return cases.drawn(seed, number, _WEIGHTS)


def run(case):
    """None, or what was wrong: the relation that did not hold, and the traceback."""
    name = "what a case gives"
    faulthandler.dump_traceback_later(SECONDS_OF_A_CASE, exit=True)
    try:
        with warnings.catch_warnings(), buffers.watched(), answers.machine(**case.settings):
            warnings.simplefilter("error")
            this_run = compute(case, case.rng(0))
            for k, name in enumerate(case.relations):  # noqa: B007 - it is told if one fails
                this_run.rng = case.rng(1, k)
                RELATIONS[name][2](this_run)
        name = "memory beside the buffers"
    except Exception:
        return f"{name}\n{traceback.format_exc()}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    return None


def described(seed, number):
    """A case in readable form, with the line that runs it alone."""
    with np.printoptions(threshold=20):
        text = str(drawn(seed, number))
    return f"python -m tests.fuzz --seed {seed} --case {number}\n  {text}"
