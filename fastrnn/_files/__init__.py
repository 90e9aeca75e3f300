"""Files that may come from strangers: .npz and .safetensors, read piece by piece, never unpickled.

sources.py opens files, bounds the memory that they take, and replaces files. tensors.py and npz.py
(zips.py, npy.py) read and write the two formats, formats.py chooses one by the suffix, texts.py and
objects.py read JSON.

It must not know: layers, parts, the meaning of names.
"""
