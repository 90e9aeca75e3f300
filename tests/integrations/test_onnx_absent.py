"""Without the package onnx, fastrnn.onnx says how to install it."""

import sys

import pytest

pytestmark = [pytest.mark.any_isa, pytest.mark.no_kernels]


def test_without_onnx_the_error_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("fastrnn.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install onnx .*fastrnn\[onnx\]") as caught:
        import fastrnn.onnx  # noqa: F401
    assert caught.value.name == "onnx"
