"""Who makes the mask of each recurrent layer of a model.

In Keras a mask comes with a tensor: some layers make one, some hand on that of their input. A layer
can be called several times, a model within the model too; a recurrent layer has a mask here if it
has one in any call.

It must not know: files, arrays, where weights are.
"""

import graphlib
from typing import NamedTuple

from fastrnn.keras._recipe import MODELS, RECURRENT

# Keras' layers that hand on the mask of their first input, beside recurrent ones.
HAND_ON = {
    "Activation", "ActivityRegularization", "AdditiveAttention", "AlphaDropout", "Attention",
    "BatchNormalization", "Dense", "Dropout", "ELU", "GaussianDropout", "GaussianNoise",
    "GroupNormalization", "GroupQueryAttention", "Identity", "LayerNormalization", "LeakyReLU",
    "MultiHeadAttention", "Normalization", "PReLU", "ReLU", "Rescaling", "Softmax",
    "SpatialDropout1D", "TimeDistributed", "UnitNormalization",
}  # fmt: skip
# Those that join the masks of all their inputs. Keras 3 wants every input to have one, and Keras 2
# and Concatenate any.
JOIN = {"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"}
_EMBEDDINGS = {"Embedding", "ReversibleEmbedding"}
_MOST_READS = 2**20  # of tensors, in all calls of layers


class Mask(NamedTuple):
    """The layer that makes a mask, and whether it is an Embedding with mask_zero."""

    source: str
    mask_zero: bool


class _Call(NamedTuple):
    """One call of a layer in a Functional model. A tensor is (layer, call, index of output).

    reads : the tensors of its first argument
    masks : the tensors that it is given as mask, None for an input without; None for no argument
    alone : its other arguments have no tensors
    """

    reads: list
    masks: list | None
    alone: bool


class _Graph(NamedTuple):
    """A Functional model: its layers by name, its calls in an order in which they can be made.

    calls : (layer, index of call) -> _Call
    inputs, outputs : lists of tensors
    size : the number of tensors that are read in one call of the model
    """

    nodes: dict
    calls: dict
    inputs: list
    outputs: list
    size: int


class Masks:
    """The masks of a model's recurrent layers, after `of_model` of the outermost model.

    major : the major version of Keras, 2 or 3
    found : id of a recurrent layer's entry -> Mask
    """

    def __init__(self, major):
        self._major, self._left, self.found = major, _MOST_READS, {}
        self._graphs = {}  # id of a model's entry -> _Graph

    def of_model(self, model, incoming):
        """The masks of a model's outputs. incoming : those of its inputs, None for no mask."""
        if model.kind != "Sequential":
            return self._of_functional(model, incoming)
        masks = incoming
        for node in model.layers():
            masks = self._of_call(node, masks)
        return masks

    def _of_functional(self, model, incoming):
        graph = self._graphs.get(id(model.entry)) or _graph(model, self._major)
        self._graphs[id(model.entry)] = graph
        self._spend(model, graph.size)
        known = {(name, 0): [m] for (name, *_), m in zip(graph.inputs, incoming, strict=False)}
        for key, call in graph.calls.items():
            node = graph.nodes[key[0]]
            given = [_at(known, tensor) for tensor in call.reads]
            if call.masks is not None:
                given = self._with_explicit(given, call.masks, graph.nodes)
            # Keras 3 gives a layer the mask of x where x is the only tensor.
            reads = call.masks is not None or call.alone or self._major == 2
            known[key] = self._of_call(node, given, reads)
        return [_at(known, tensor) for tensor in graph.outputs]

    def _spend(self, node, count):
        """Count tensors that are read: models in models can be called any number of times."""
        self._left -= count
        if self._left < 0:
            raise node.refused(f"all calls of layers must read at most {_MOST_READS} tensors")

    def _with_explicit(self, handed, explicit, nodes):
        """The masks of a call's tensors, where it is called with mask=.

        Keras 3 writes the mask that came with x as if it had been passed. That one is the result of
        an operation, which is no layer; so is one that the model's author computed.
        """
        found = []
        for index, tensor in enumerate(explicit):
            own = handed[index] if index < len(handed) else None
            if tensor is None:
                own = None
            elif own is None or self._is_layer(nodes.get(tensor[0])):
                own = Mask(tensor[0], False)
            found.append(own)
        return found

    def _is_layer(self, node):
        """Return whether it is a layer of Keras' own, and no operation, as `keras.ops` has them.

        An .h5 does not say the module of a class. There a layer has trainable, an operation not.
        """
        if node is None or not node.is_keras():
            return False
        said = "module" in node.entry or "trainable" in node.config or node.kind == "InputLayer"
        return said or self._major == 2

    def _of_call(self, node, incoming, reads=True):
        """The masks of a layer's outputs.

        incoming : those of the tensors that it reads. reads : False where a recurrent layer hands
        on the mask of x, but computes without it.
        """
        self._spend(node, 1)
        if node.kind in MODELS:
            return self.of_model(node, incoming)
        if node.kind == "InputLayer":
            return incoming
        first = incoming[0] if incoming else None
        if node.kind in RECURRENT:
            if reads and first is not None:
                self.found.setdefault(id(node.entry), first)
            return [first] * _sequences(node)
        if node.kind in _EMBEDDINGS:
            return [Mask(node.name, True)] if node.config.get("mask_zero") is True else []
        if node.kind == "Masking":
            return [Mask(node.name, False)]
        if not self._is_layer(node):
            return []
        if node.kind in JOIN and self._major == 3 and None in incoming:
            return []
        if node.kind in JOIN or node.kind == "Concatenate":
            return [next((mask for mask in incoming if mask is not None), None)]
        return [first] if node.kind in HAND_ON else []


def _graph(model, major):
    nodes = {node.name: node for node in model.layers()}
    # Keras counts the creation of a model within as its call 0: Keras 2 everywhere, Keras 3 in
    # outputs alone, and not for a Sequential.
    kinds = MODELS if major == 2 else MODELS - {"Sequential"}
    later = {name for name, node in nodes.items() if node.kind in kinds}

    def from_0(tensors):
        return [(name, max(call - (name in later), 0), at) for name, call, at in tensors]

    calls = {}
    for name, node in nodes.items():
        for index, value in enumerate(_listed(node.entry.get("inbound_nodes"))):
            call = _call(value)
            calls[name, index] = call._replace(reads=from_0(call.reads)) if major == 2 else call
    sorter = graphlib.TopologicalSorter(
        {key: [tensor[:2] for tensor in call.reads] for key, call in calls.items()}
    )
    try:
        ordered = {key: calls[key] for key in sorter.static_order() if key in calls}
    except graphlib.CycleError:
        raise model.refused("its layers must not read each other in a circle") from None
    inputs = _tensors(model.config.get("input_layers"))
    outputs = from_0(_tensors(model.config.get("output_layers")))
    size = sum(len(call.reads) + len(call.masks or ()) for call in calls.values())
    return _Graph(nodes, ordered, inputs, outputs, size + len(inputs) + len(outputs))


def _sequences(node):
    """The number of a recurrent layer's outputs that have the steps of its input."""
    inner = node.child("layer") if node.kind == "Bidirectional" else node
    if inner.config.get("return_sequences") is not True:
        return 0
    return 2 if node.kind == "Bidirectional" and node.config.get("merge_mode", 0) is None else 1


def _call(value):
    """The `_Call` of an element of inbound_nodes.

    Keras 3 has a dict of args and kwargs, with serialized tensors in them; Keras 2 a list of
    tensors [name, call, index, kwargs].
    """
    if not isinstance(value, dict):
        lists = [leaf for leaf in _leaves(value) if isinstance(leaf, list) and len(leaf) == 4]
        kwargs = [kwargs for *_, kwargs in lists if isinstance(kwargs, dict)]
        mask = next((own["mask"] for own in kwargs if "mask" in own), None)
        return _Call(_tensors(value), _masks(mask), True)
    args, kwargs = _listed(value.get("args")), value.get("kwargs")
    kwargs = kwargs if isinstance(kwargs, dict) else {}
    others = [argument for name, argument in kwargs.items() if name != "mask"]
    first, *others = [*args, *others, None]
    return _Call(_tensors(first), _masks(kwargs.get("mask")), not _tensors(others))


def _masks(value):
    """The tensors of an argument mask, which has one for each input, or None for an input."""
    return None if value is None else [_tensor(leaf) for leaf in _leaves(value)]


def _tensors(value):
    """The tensors in a value, a list."""
    return [tensor for leaf in _leaves(value) if (tensor := _tensor(leaf)) is not None]


def _leaves(value):
    """Yields what nested lists and dicts hold, in Keras' order: that of a dict's sorted keys.

    A serialized tensor is one leaf, though it is a list or a dict.
    """
    left = [value]
    while left:
        value = left.pop()
        if _tensor(value) is not None:
            yield value
        elif isinstance(value, list):
            left += reversed(value)
        elif isinstance(value, dict):
            left += [value[key] for key in sorted(value, reverse=True)]
        else:
            yield value


def _tensor(value):
    """A serialized tensor as (layer, call, index of output); None for another value."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        value = value["config"].get("keras_history") if isinstance(value.get("config"), dict) else 0
    if isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str):
        numbers = [number if isinstance(number, int) else 0 for number in value[1:3]]
        return value[0], *numbers
    return None


def _at(known, tensor):
    """The mask of a tensor."""
    name, call, index = tensor
    masks = known.get((name, call), [])
    return masks[index] if 0 <= index < len(masks) else None


def _listed(value):
    return value if isinstance(value, list) else []
