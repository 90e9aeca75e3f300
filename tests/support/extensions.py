"""Extension modules that tests build from Cython, as other packages do."""

import importlib.util
import subprocess
import sys


def build(folder, name, source, setup):
    """Build a .pyx in a folder with a setup.py; return the module."""
    (folder / f"{name}.pyx").write_text(source)
    (folder / "setup.py").write_text(setup)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = [path for path in folder.glob(f"{name}.*") if path.suffix in (".so", ".pyd")]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
