"""The benchmark: `python -m fastrnn bench`. fastrnn itself imports nothing of it.

run.py reads the command line; measure.py runs all jobs, job.py one of them, worker.py a process
with one peer; peer.py, peers.py and what they import are the peers, cases.py the cases and their
limits, limits.py and about.py the machine; status.py, report.py and picture.py show it all.
"""
