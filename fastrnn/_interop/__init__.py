"""How other systems arrange the parameters of recurrent layers (conventions.py).

It must not know: files, other systems' packages, layers.
"""
