"""From checked arrays to a backend, the compiled module or the reference, and back.

runtime.py chooses the backend, the instruction set and the number of threads, and keeps workspaces.
passes.py runs directions of a layer, ids.py those whose x is ids. ragged.py says which steps of
which rows count, dropout_masks.py draws dropout and zoneout. _core.pyx is the compiled module;
_build.py tells whether it belongs to these sources.

It must not know: layers.
"""

import pkgutil

# What setup.py wrote into an installed package. Looked for before __path__ is extended, so that a
# checkout, which has none, does not find that of the installed one.
try:
    from fastrnn._engine._build_id import BUILD_ID as installed_id
except ModuleNotFoundError:
    installed_id = None

# A checkout finds the installed compiled module.
__path__ = pkgutil.extend_path(__path__, __name__)
