"""The layers of a weight file, as it tells them by names, by shapes, and by a description.

names.py finds the layers in the names of arrays. kinds.py has the classes and their options.
description.py writes and checks the text that `fastrnn.save` puts beside the arrays. plan.py
decides from all of it which layers to make; contents.py does so for an open file, before any
element is read.

It must not know: formats.
"""
