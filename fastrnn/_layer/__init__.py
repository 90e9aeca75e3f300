"""The parts of a layer.

base.py is the base of all layers. conversions.py brings a user's arrays into the form in which the
engine takes them, merge.py puts two directions together. parameters.py keeps the buffer of all
parameters, initializers.py gives them their first values, dropout.py has the properties of dropout.
tape.py has the tape that a training pass returns, stream.py runs step by step, truncated.py window
by window.

It must not know: how anything is computed.
"""
