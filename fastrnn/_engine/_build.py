"""The build id: a number that stands for the sources of the compiled module.

setup.py compiles the id into `_core`, and writes it into an installed package as _build_id.py. A
checkout has no such file: every import computes the id from the sources. So `fault_of` notices a
module that was built from other sources, wherever Python finds it.

setup.py runs this file by its path, before there is a package: import nothing of fastrnn here.
"""

import os

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

# The sources of the compiled module. A change of a Python file needs no build.
_SOURCES = (
    "csrc/**/*.[ch]",
    "fastrnn/_engine/*.pyx",
    "fastrnn/_engine/*.px[di]",
    "fastrnn/kernels.pxd",
)


def of_sources(root=_ROOT):
    """The id of the sources in a checkout: the same on every system, whatever its line ends."""
    import hashlib  # imported here: the two take 7 ms, and an installed package needs neither
    from pathlib import Path

    root = Path(root)
    names = {path.relative_to(root).as_posix() for p in _SOURCES for path in root.glob(p)}
    digest = hashlib.sha256()
    for name in sorted(names):
        if not name.rpartition("/")[2].startswith("."):  # an editor's lock
            text = (root / name).read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()[:32]


def fault_of(module, installed_id):
    """Return None if a compiled module belongs to this package, else a message.

    The message says which command to run.

    Parameters
    ----------
    module : module
        `fastrnn._engine._core` as Python found it.
    installed_id : str or None
        The id that setup.py wrote into this package; None in a checkout.
    """
    build_id = getattr(module, "build_id", lambda: None)  # builds of older versions have none
    if build_id() == (installed_id or of_sources()):
        return None
    if installed_id:
        remedy = (
            "pip install --force-reinstall fastrnn, or pip install . again in the checkout that it "
            "was installed from"
        )
    elif os.path.dirname(os.path.realpath(module.__file__)) == os.path.join(
        _ROOT, "fastrnn", "_engine"
    ):
        remedy = f"python setup.py build_ext --inplace (or pip install -e .) again in {_ROOT}"
    else:
        remedy = f"pip install . again in {_ROOT}"
    return (
        f"the compiled module {module.__file__} was built from other sources than those of the "
        f"package in {os.path.join(_ROOT, 'fastrnn')}: run {remedy}"
    )
