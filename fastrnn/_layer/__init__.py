"""The parts of a layer.

base.py is the base of all layers. structure.py has a layer's sizes and names, and converts between
the user's arrays and those of passes. running.py runs the passes of a call. merge.py combines the
outputs of two directions.
parameters.py keeps the buffer of all parameters, initializers.py draws their first values,
dropout.py has the properties of dropout. tape.py has the tape that a training pass returns.
frozen.py has layers packed once, head.py the head that one may have. stream.py runs a layer step by
step, truncated.py window by window.

It must not know: how anything is computed.
"""
