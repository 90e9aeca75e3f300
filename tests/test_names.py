"""The names of the package `fastrnn`: those that it lacks."""

import pytest

import fastrnn

pytestmark = [pytest.mark.no_kernels, pytest.mark.any_isa]


def test_python_can_propose_the_nearest_name_for_one_that_is_misspelt():
    """Python looks for it in the error's `obj`: "Did you mean: 'set_num_threads'?"."""
    with pytest.raises(AttributeError, match="'fastrnn' has no attribute 'set_threads'") as caught:
        fastrnn.set_threads(1)
    assert (caught.value.name, caught.value.obj) == ("set_threads", fastrnn)
