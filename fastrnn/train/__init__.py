"""What stands around recurrent layers in training: a read-out, an embedding, losses, optimizers.

All of it is NumPy, for it is little beside the layers. Parts keep their parameters as layers do:
`params`, a dict of views into `flat`, one buffer; gradients come as buffers like it. So an
optimizer is made of a list of buffers, and a step takes a list of gradients.
"""

from fastrnn.train.losses import binary_cross_entropy, cross_entropy, mean_squared_error
from fastrnn.train.optimizers import SGD, Adam, clip_by_norm, clip_by_value
from fastrnn.train.parts import Dense, Embedding, PartGradients
from fastrnn.train.series import windows

__all__ = [
    "SGD",
    "Adam",
    "Dense",
    "Embedding",
    "PartGradients",
    "binary_cross_entropy",
    "clip_by_norm",
    "clip_by_value",
    "cross_entropy",
    "mean_squared_error",
    "windows",
]
