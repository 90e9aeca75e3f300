"""The conventions of other systems, one row each, and the conversion of a parameter both ways.

fastrnn's own convention, "native" below, is PyTorch's: the gates of an LSTM in the order i f g o,
those of a GRU r z n, a matrix (gates * hidden, features) with a row for each unit of a gate, two
biases, and h_t = (1 - z) n + z h_{t-1}. A gate has the same letter here in every system: Keras and
ONNX call g "c", and n "h".

It must not know: files, other systems' packages, layers.
"""

from typing import NamedTuple

import numpy as np

NATIVE = {"rnn": "h", "lstm": "ifgo", "gru": "rzn"}


class Convention(NamedTuple):
    """The differences of a system from fastrnn.

    Attributes
    ----------
    lstm, gru : str
        The order of the gates, in fastrnn's letters. An array for some of the gates, as peepholes
        are, has these in the same order.
    by_columns : bool
        A matrix is (features, gates * hidden), with a column for each unit of a gate.
    z_is_new : bool
        The update gate of a GRU is the factor of the new value: h_t = (1 - z) h_{t-1} + z n.
    """

    lstm: str = NATIVE["lstm"]
    gru: str = NATIVE["gru"]
    by_columns: bool = False
    z_is_new: bool = False

    def to_native(self, cell, array, gates=None):
        """A new array in fastrnn's arrangement, from one in the system's.

        cell : "lstm", "gru" or "rnn"
        array : a matrix or a vector whose gates lie side by side
        gates : the letters of the gates that the array has, in fastrnn's order; None for all
        """
        gates = gates or NATIVE[cell]
        if self.by_columns:
            array = array.T
        return np.ascontiguousarray(self._moved(cell, array, self._order(cell, gates), gates))

    def from_native(self, cell, array, gates=None):
        """The inverse of `to_native`."""
        gates = gates or NATIVE[cell]
        array = self._moved(cell, array, gates, self._order(cell, gates))
        return np.ascontiguousarray(array.T) if self.by_columns else array

    def _order(self, cell, gates):
        """The system's order of some gates."""
        everything = {"lstm": self.lstm, "gru": self.gru, "rnn": NATIVE["rnn"]}[cell]
        return [gate for gate in everything if gate in gates]

    def _moved(self, cell, array, before, after):
        """A copy with the gates, which are on the first axis, in another order.

        sigmoid(-p) = 1 - sigmoid(p), so a z of the other sense has weights of the other sign. The
        hard sigmoids have this symmetry too.
        """
        blocks = dict(zip(before, np.split(array, len(before)), strict=True))
        if self.z_is_new and cell == "gru":
            blocks["z"] = -blocks["z"]
        return np.concatenate([blocks[gate] for gate in after])


# Sources: the documentation of torch.nn.LSTM and GRU; keras.layers.LSTM and GRU of Keras 3; the
# operators LSTM and GRU of ONNX, opset 22; thinc's functions for an LSTM in thinc.backends.ops,
# 9.1. Lectures and textbooks write a matrix for each gate, so that its order is free, and either
# sense of z: those of `fastrnn.convert`.
PYTORCH = Convention()
KERAS = Convention(gru="zrn", by_columns=True)
ONNX = Convention(lstm="iofg", gru="zrn")
THINC = Convention(lstm="fiog")
LECTURE = Convention(z_is_new=True)


def split_biases(cell, bias, reset_after=True):
    """(b_ih, b_hh) for a system that has one bias alone, which becomes b_ih.

    The b_hh of n counts separately where the reset gate acts after the product, so a GRU of one
    bias is refused there.
    """
    if cell == "gru" and reset_after:
        raise ValueError("a GRU with reset_after=True must have two biases, got one")
    return bias.copy(), np.zeros_like(bias)


def joined_biases(cell, b_ih, b_hh, reset_after=True):
    """The one bias b_ih + b_hh, the inverse of `split_biases`.

    A GRU with reset_after=True has none: its b_hh of n is multiplied by the reset gate.
    """
    if cell == "gru" and reset_after:
        raise ValueError("a GRU with reset_after=True must have two biases, and cannot have one")
    return b_ih + b_hh
