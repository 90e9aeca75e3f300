"""The values of nodes' attributes, each by its type.

It must not know: operators, which attributes they have.
"""

from __future__ import annotations

from onnx import AttributeProto

_VALUES = {
    AttributeProto.FLOAT: lambda a: a.f,
    AttributeProto.FLOATS: lambda a: [*a.floats],
    AttributeProto.INT: lambda a: a.i,
    AttributeProto.INTS: lambda a: [*a.ints],
    AttributeProto.STRING: lambda a: a.s.decode(),
    AttributeProto.STRINGS: lambda a: [text.decode() for text in a.strings],
    AttributeProto.TENSOR: lambda a: a.t,
}


def has_type(attribute, wanted):
    """Return whether an attribute has a value of its own, of this type.

    In the body of a function it may refer to an attribute of the function instead.
    """
    return attribute.type == wanted and not attribute.ref_attr_name


def value_of(attribute):
    """The value; its type must be one of those that fastrnn's operators have."""
    return _VALUES[attribute.type](attribute)
