"""Parameters by name, each a view into one flat buffer."""

import math


def size_of(shapes):
    """Elements of all parameters; shapes is a dict from their names."""
    return sum(math.prod(shape) for shape in shapes.values())


def views_of(flat, shapes):
    """The parameters: name -> view into flat, one after another."""
    views, at = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        views[name] = flat[at : at + size].reshape(shape)
        at += size
    return views
