"""What stands around recurrent layers in training: enough for real models, read in one sitting.

All of it is NumPy, for it is little beside the layers. Parts keep their parameters as layers do:
`params`, a mapping of views into `flat`, one buffer; gradients come as buffers like it. So an
optimizer is made of a list of buffers, and a step takes a list of gradients.

parts.py has a head and an embedding, probabilities.py sigmoid and softmax, losses.py losses
with their gradients, series.py minibatches of windows. optimizers.py has clipping, SGD and Adam;
buffers.py checks the arrays that they change. state.py makes one dict of all that training changes;
checkpoints.py writes and reads it, loop.py is `fit`, progress.py the bar that it shows.

A checkpoint may come from anybody. contents.py says in which order one is looked at, tensors.py
and npz.py (zips.py, npy.py) read the two formats, texts.py reads JSON, generators.py the states of
random generators, files.py opens and replaces files.

protocols.py has types for type checkers alone.
"""

from fastrnn.train.checkpoints import load, save
from fastrnn.train.loop import History, fit
from fastrnn.train.losses import binary_cross_entropy, cross_entropy, mean_squared_error
from fastrnn.train.optimizers import SGD, Adam, clip_by_norm, clip_by_value
from fastrnn.train.parts import Dense, Embedding, PartGradients
from fastrnn.train.probabilities import sigmoid, softmax
from fastrnn.train.series import windows

__all__ = [
    "SGD",
    "Adam",
    "Dense",
    "Embedding",
    "History",
    "PartGradients",
    "binary_cross_entropy",
    "clip_by_norm",
    "clip_by_value",
    "cross_entropy",
    "fit",
    "load",
    "mean_squared_error",
    "save",
    "sigmoid",
    "softmax",
    "windows",
]
