"""Runs cases under a watchdog and in watched memory, and describes failures in words."""

import faulthandler
import traceback
import warnings

import numpy as np

from . import answers, buffers, cases, forms, frozen, machines, parts, repeats, streams
from .relations import RELATIONS, compute

WAYS = (
    machines,
    repeats,
    forms,
    parts,
    streams,
    frozen,
)  # imported: they put relations into the table

SECONDS_OF_A_CASE = 90

_WEIGHTS = {name: (has_meaning, weight) for name, (has_meaning, weight, _) in RELATIONS.items()}


def drawn(seed, number):
    return cases.drawn(seed, number, _WEIGHTS)


def run(case):
    """None, or a description of the failure: the relation that did not hold, and the traceback."""
    name = "what a case gives"
    faulthandler.dump_traceback_later(SECONDS_OF_A_CASE, exit=True)
    try:
        with warnings.catch_warnings(), buffers.watched(), answers.machine(**case.settings):
            warnings.simplefilter("error")
            this_run = compute(case, case.rng(0))
            for k, name in enumerate(case.relations):  # noqa: B007 - named if it fails
                this_run.rng = case.rng(1, k)
                RELATIONS[name][2](this_run)
        name = "memory beside the buffers"
    except Exception:
        return f"{name}\n{traceback.format_exc()}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    return None


def described(seed, number):
    """A case in readable form, with the command that runs it alone."""
    with np.printoptions(threshold=20):
        text = str(drawn(seed, number))
    return f"python -m tests.fuzz --seed {seed} --case {number}\n  {text}"
