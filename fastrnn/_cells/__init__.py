"""Which cells there are (registry.py), and what can be altered in them (options.py)."""
