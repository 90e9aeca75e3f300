"""Texts of a file that are JSON, read as dicts.

It must not know: formats, the meaning of names.
"""

from fastrnn._files.texts import Twice, object_of
from fastrnn.checks import shown


def length_of(label, found):
    """The characters of a text, by its header; TypeError unless it is one.

    found : what `describe` gives for it
    """
    dtype, shape = found.dtype, found.shape
    if isinstance(dtype, str) or dtype.kind != "U" or shape != ():
        raise TypeError(f"{label} must be a string that holds JSON")
    return dtype.itemsize // 4


def read(source, name, text):
    """The object of a text, which is JSON, as a dict."""
    return said(source, name, object_of, text)


def said(source, name, check, *arguments):
    """check(*arguments), with the file and the name added to its ValueError."""
    try:
        return check(*arguments)
    except Twice as error:
        raise source.refused(f"it has {shown(error.args[0])} twice", name) from None
    except ValueError as error:
        raise source.refused(str(error), name) from None
