"""The benchmark. fastrnn itself imports nothing of it."""
