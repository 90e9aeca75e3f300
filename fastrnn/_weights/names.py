"""The layers in a file, by the names of its arrays.

An array's name is a prefix and the name of a parameter, as in PyTorch: encoder.lstm.weight_ih_l0
has the prefix "encoder.lstm.". The layer of that prefix is called "encoder.lstm".

It must not know: shapes, cells.
"""

import re

from fastrnn.checks import shown

# Every layer has such a parameter. The cells of torch.nn have no number: they are one layer.
_OF_EVERY_LAYER = re.compile(r"(?:weight|bias)_(?:ih|hh)(?:_l[0-9]+(?:_reverse)?)?\Z")
_OF_A_CELL = frozenset({"weight_ih", "weight_hh", "bias_ih", "bias_hh"})


def prefixes(names):
    """The prefixes of all layers, in the order of the names, as a list."""
    found = [_OF_EVERY_LAYER.search(name) for name in names]
    return list(dict.fromkeys([match.string[: match.start()] for match in found if match]))


def layer_name(prefix):
    """The name of the layer of a prefix."""
    return prefix.removesuffix(".")


def parameters(names, all_prefixes):
    """Prefix -> {parameter: name of its array}, of all names that begin with a prefix.

    A name belongs to the longest prefix that it begins with.

    Raises
    ------
    ValueError
        With a reason, for two arrays of one parameter.
    """
    found = {prefix: {} for prefix in all_prefixes}
    lengths = sorted({len(prefix) for prefix in found}, reverse=True)
    for name in names:
        prefix = next((name[:length] for length in lengths if name[:length] in found), None)
        if prefix is None:
            continue
        parameter = name[len(prefix) :]
        parameter += "_l0" if parameter in _OF_A_CELL else ""
        if parameter in found[prefix]:
            raise ValueError(f"the layer has the parameter {parameter} twice")
        found[prefix][parameter] = name
    return found


def chosen(all_prefixes, prefix):
    """The prefixes behind the user's prefix, and True if there is one layer at that prefix.

    Raises
    ------
    ValueError
        With a reason that names the prefixes to choose: if there is no layer, if there is one at
        the prefix and others below it, and if two layers have the same name.
    """
    twice = {each + "." for each in all_prefixes if each[-1:] != "."}.intersection(all_prefixes)
    if twice:
        raise ValueError(f"there are layers at {_listed(sorted(twice))}, and without the dot")
    below = [each for each in all_prefixes if each.startswith(prefix)]
    others = [each for each in below if each != prefix]
    if prefix + "." in below:
        raise ValueError(f"prefix must end with the dot: use prefix={prefix + '.'!r}")
    if len(others) == len(below):
        if not below:
            raise ValueError(_no_layers(all_prefixes, prefix))
        return below, False
    if others:
        raise ValueError(f"there are layers at {prefix!r} and below it: {_listed(others)}")
    return below, True


def _no_layers(all_prefixes, prefix):
    if not all_prefixes:
        return "no array is a parameter of a recurrent layer, such as weight_ih_l0"
    return f"no recurrent layer is behind prefix={prefix!r}: use {_listed(all_prefixes)}"


def _listed(prefixes, most=8):
    """Prefixes for a message: of bounded length."""
    texts = [repr(shown(prefix)) for prefix in prefixes]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
