"""The registry of cells (registry.py) and the options of variants (options.py)."""
