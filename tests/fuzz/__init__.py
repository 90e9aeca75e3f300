"""A fuzzer: layers, batches and ways to compute that a generator draws, checked against each other.

    python -m tests.fuzz --seconds 120 --seed-from COMMIT
    python -m tests.fuzz --seed 7 --case 312

cases.py draws a case: a layer, a batch, the machine's settings and the relations to look at.
batches.py and layouts.py make its arrays, buffers.py the memory that results are written to.
answers.py computes all that a case gives, rounding.py how far rounding alone moves it. relations.py
has the table of ways to compute the same otherwise; machines.py, repeats.py, forms.py, parts.py and
streams.py fill it. running.py runs cases one by one, __main__.py in a process of their own.
"""
