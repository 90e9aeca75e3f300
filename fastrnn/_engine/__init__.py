"""The engine runs passes over checked arrays on a backend: the compiled module or the reference.

runtime.py chooses the backend, the instruction set and the number of threads, and keeps workspaces.
passes.py runs one direction of a layer, flat.py the same with a tape of bytes. ids.py prepares an x
of ids, ragged.py the lengths, masks and resets. dropout_masks.py draws dropout and zoneout masks.
_core.pyx is the compiled module; _build.py tells whether it was built from these sources.
reference_backend.py is the other backend.

It must not know: layers.
"""

# setup.py wrote this id into an installed package; a checkout has none. The import comes before
# __path__ is extended, or a checkout would find the id of the installed package.
try:
    from fastrnn._engine._build_id import BUILD_ID as installed_id
except ModuleNotFoundError:
    installed_id = None

if installed_id is None:  # with this path a checkout finds the installed compiled module
    import pkgutil

    __path__ = pkgutil.extend_path(__path__, __name__)
