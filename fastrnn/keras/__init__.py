"""Recurrent layers of Keras models, served without Keras.

Change one line: ``layers = fastrnn.keras.load("model.keras")`` in place of
``keras.models.load_model("model.keras")``, and ``layers["lstm"](x)`` does what the layer did. Files
are read through h5py.

It must not know: how files are read.
"""

from fastrnn.keras._live import from_keras, to_keras
from fastrnn.keras._loaded import Loaded
from fastrnn.keras._read import load, load_weights

__all__ = ["Loaded", "from_keras", "load", "load_weights", "to_keras"]
