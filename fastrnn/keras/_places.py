"""The places of a layer's weights in a file: a dataset's path for each array of each cell.

Keras 3 numbers arrays in groups named after classes. The older format of .h5 has a list of names
for each layer of the outermost model.

It must not know: arrays, fastrnn's layers.
"""

from fastrnn._interop.conventions import NATIVE

_KINDS = {1: "SimpleRNN", 3: "GRU", 4: "LSTM"}  # by the number of gates
_CELLS = {"rnn": "simple_rnn_cell", "lstm": "lstm_cell", "gru": "gru_cell"}
OLDER_LAYERS = "_layer_checkpoint_dependencies"
_ARRAYS = ("kernel", "recurrent_kernel", "bias")


def numbered(h5, recipe, base, refused):
    """For each cell the paths of its arrays, in a file of Keras 3 with the layer's group `base`.

    They are refused if the file has another kind of layer there.
    """
    if h5.group(base) is None:  # as Keras 2.12 and 2.13 called it
        parts = base.split("/")
        base = "/".join([OLDER_LAYERS if part == "layers" else part for part in parts])
    tops = [base]
    if recipe.bidirectional:
        tops = [f"{base}/forward_layer", f"{base}/backward_layer"]
    if recipe.num_layers:
        kind = _CELLS[recipe.cell]
        names = [kind + (f"_{k}" if k else "") for k in range(recipe.num_layers)]
        groups = [f"{base}/cell/cells/{name}" for name in names]
    else:
        groups = [f"{top}/cell" for top in tops]
    _check(h5, recipe, base, groups, refused)
    return [[f"{group}/vars/{k}" for k in range(_count(recipe))] for group in groups]


def _check(h5, recipe, base, groups, refused):
    """ValueError if the groups of cells show another kind of layer than the recipe."""
    of_bidirectional = h5.group(f"{base}/forward_layer") is not None
    if of_bidirectional != recipe.bidirectional and h5.group(base) is not None:
        words = ("two directions", "one") if of_bidirectional else ("one direction", "two")
        raise refused(f"it has {words[0]}, and {recipe.name} has {words[1]}", base)
    for group in groups:
        arrays = h5.names(f"{group}/vars")
        if "2" in arrays and not recipe.options["bias"]:
            raise refused(f"it has a bias, and {recipe.name} has none", group)
        if "1" in arrays:
            shape = h5.shape(f"{group}/vars/1")  # (units, gates * units)
            gates = len(NATIVE[recipe.cell])
            if len(shape) == 2 and shape[0] and shape[1] in [k * shape[0] for k in _KINDS]:
                found = shape[1] // shape[0]
                if found != gates:
                    kinds = f"{_KINDS[found]}, and {recipe.name} is one of {_KINDS[gates]}"
                    raise refused(f"it is a cell of {kinds}", group)


def named(h5, recipe, group, nested, refused):
    """For each cell the paths of its arrays, in an .h5 of the older format.

    group : the group of the layer of the outermost model
    nested : bool
        That layer is a model, which has the layer of the recipe.
    """
    cells = {}  # the part of the names before the array's -> its arrays
    for name in h5.texts(group, "weight_names"):
        owner, _, array = name.rpartition("/")
        array = array.partition(":")[0]
        if array in _ARRAYS and (not nested or recipe.name in owner.split("/")):
            if cells.setdefault(owner, {}).setdefault(array, name) != name:
                raise refused("it has an array twice", name)
    wanted = _ARRAYS[: _count(recipe)]
    ordered = [cells[owner] for owner in _in_order(recipe, list(cells), group, refused)]
    for cell in ordered:
        if set(cell) != set(wanted):
            raise refused(f"each cell must have {', '.join(wanted)}", group)
    return [[f"{group}/{cell[array]}" for array in wanted] for cell in ordered]


def _in_order(recipe, owners, group, refused):
    """The owners of arrays in the order of cells: by names, for their order may differ."""
    if len(owners) != recipe.passes:
        raise refused(
            f"{recipe.name} must have weights of {recipe.passes} cells, got {len(owners)}", group
        )
    if recipe.bidirectional:
        # Keras 3 gives no prefix to a backward_layer that has a name of its own.
        own = recipe.cell_names or (None, None)
        marks = [
            lambda part, m=m, name=name: part.startswith(m) or part == name
            for m, name in zip(("forward_", "backward_"), own, strict=True)
        ]
    elif recipe.num_layers > 1:
        marks = [lambda part, m=m: part == m for m in recipe.cell_names]
    else:
        return owners
    found = [[o for o in owners if any(map(mark, o.split("/")))] for mark in marks]
    if any(len(some) != 1 for some in found) or len({some[0] for some in found}) != len(owners):
        raise refused(f"the names of its weights do not say which cell of {recipe.name}", group)
    return [some[0] for some in found]


def _count(recipe):
    return 3 if recipe.options["bias"] else 2
