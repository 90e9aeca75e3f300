"""The folder of the C header, for those who compile against fastrnn.

setup.py copies csrc/fastrnn.h to include/ of an installed package. A checkout has csrc/ itself.

It must not know: what the header says.
"""

from pathlib import Path


def get_include() -> str:
    """Return the folder that has fastrnn.h, the header of the C interface.

    Returns
    -------
    folder : str
        For a compiler's -I, or `include_dirs` of an extension module.

    Raises
    ------
    FileNotFoundError
        If the installation has no header.

    Examples
    --------
    >>> import pathlib
    >>> import fastrnn
    >>> (pathlib.Path(fastrnn.get_include()) / "fastrnn.h").is_file()
    True
    """
    package = Path(__file__).parent
    folders = [package / "include", package.parent / "csrc"]
    for folder in folders:
        if (folder / "fastrnn.h").is_file():
            return str(folder)
    raise FileNotFoundError(
        f"fastrnn.h is neither in {folders[0]} nor in {folders[1]}: install fastrnn again"
    )
