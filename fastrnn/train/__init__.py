"""Training: heads, embeddings, losses, optimizers, a loop and checkpoints.

All of it is plain NumPy, because it takes little time compared with the layers. A part is a layer,
a head, an embedding or a dropout. `params` is a mapping of views into `flat`, the buffer of a
part's parameters; a dropout has none. Gradients are buffers of the same layout. So an optimizer
takes a list of buffers, and its step a list of gradients.

parts.py has a head and an embedding, dropout.py dropout between parts, probabilities.py sigmoid and
softmax, losses.py losses with their gradients, shares.py what counts in them. series.py has
minibatches of windows, sequences.py puts ragged sequences into one array and turns tokens into ids.
optimizers.py has clipping, SGD and Adam; buffers.py checks the arrays that they change. state.py
puts everything that training changes into one dict; checkpoints.py writes and reads it. loop.py is
`fit`, history.py what it returns, epochs.py its checkpoint, progress.py its progress bar.

A checkpoint may come from a stranger. contents.py checks it, generators.py reads the states of
random generators, and fastrnn/_files has the two formats.

protocols.py has types for type checkers only.
"""

from fastrnn.train.checkpoints import load, save
from fastrnn.train.dropout import Dropout
from fastrnn.train.history import History
from fastrnn.train.loop import fit
from fastrnn.train.losses import binary_cross_entropy, cross_entropy, mean_squared_error
from fastrnn.train.optimizers import SGD, Adam, clip_by_norm, clip_by_value
from fastrnn.train.parts import Dense, Embedding, PartGradients
from fastrnn.train.probabilities import sigmoid, softmax
from fastrnn.train.sequences import Vocabulary, pad
from fastrnn.train.series import windows

__all__ = [
    "SGD",
    "Adam",
    "Dense",
    "Dropout",
    "Embedding",
    "History",
    "PartGradients",
    "Vocabulary",
    "binary_cross_entropy",
    "clip_by_norm",
    "clip_by_value",
    "cross_entropy",
    "fit",
    "load",
    "mean_squared_error",
    "pad",
    "save",
    "sigmoid",
    "softmax",
    "windows",
]
