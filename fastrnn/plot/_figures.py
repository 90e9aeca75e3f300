"""Parts of several pictures.

It must not know: what a picture shows.
"""


def subplots(*args, **options):
    """A new figure and its axes: matplotlib's `pyplot.subplots`."""
    try:
        from matplotlib import pyplot  # imported here: the rest of fastrnn works without it
    except ImportError:
        raise ImportError("fastrnn.plot needs matplotlib: pip install matplotlib") from None
    return pyplot.subplots(*args, **options)
