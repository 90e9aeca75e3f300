"""The benchmark: `python -m fastrnn bench`. `import fastrnn` does not import it.

A peer is a framework that fastrnn is compared with, or fastrnn itself. run.py reads the command
line; measure.py runs all jobs, job.py one job, worker.py a process with one peer. peers.py and the
modules that it imports are the peers; cases.py has the cases and their limits; limits.py and
about.py describe the machine; status.py, report.py, markdown.py and picture.py show the results.
"""
