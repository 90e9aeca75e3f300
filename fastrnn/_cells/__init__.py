"""Which cells there are (cells.py), and what can be altered in them (options.py)."""
