"""A fuzzer: it draws layers and batches, computes them in several ways, and compares the results.

    python -m tests.fuzz --seconds 120 --seed-from COMMIT
    python -m tests.fuzz --seed 7 --case 312

cases.py draws a case: a layer, a batch, the machine's settings and the relations to check. A
relation is another way to compute the same results. batches.py and layouts.py make the arrays of a
case, buffers.py the memory for results. answers.py computes the answer of a case: all its results.
rounding.py computes the effect of rounding on them. relations.py has the table of relations;
machines.py, repeats.py, forms.py, parts.py, streams.py and frozen.py fill it. running.py runs
single cases, __main__.py runs many in a process of their own.
"""
