"""Headers of strangers' arrays: valid ones of any writer are read, others refused."""

import pytest
from problems import assert_same_bits
from strangers import DEFLATED, WEIGHT, WHOLE, Member, members, npy, zip_of
from training import draw

pytestmark = pytest.mark.no_kernels


@pytest.mark.parametrize(
    "weight",
    [
        npy(WEIGHT, version=2),
        npy(WEIGHT, version=3),
        npy(WEIGHT.T.copy(), shape=(2, 3), fortran=True),
        npy(WEIGHT, header='{"shape":(2,3),"fortran_order":False,"descr":"<f4"}'),
        npy(WEIGHT, header="{'descr': '=f4' , 'fortran_order' : False, 'shape': (2L, 3L,)}"),
    ],
    ids=["version 2", "version 3", "Fortran", "another order", "Python 2"],
)
def test_whoever_wrote_an_array_it_is_read(weight, npz):
    npz.load(zip_of(members(weight)))
    npz.holds()


def header_like(text):
    return npy(WEIGHT, header=text)


@pytest.mark.parametrize(
    ("weight", "error", "words"),
    [
        (npy(WEIGHT, ">f4"), TypeError, "must be float32 like parts, got >f4"),
        (npy(WEIGHT.astype("f8")), TypeError, "got float64"),
        (npy(WEIGHT, "|O"), TypeError, "got |O: pickled files are never read"),
        (npy(WEIGHT, [("a", "<f4")]), TypeError, "got [('a', '<f4')]"),
        (npy(WEIGHT, "<M8[s]"), TypeError, "got <M8[s]"),
        (npy(WEIGHT, "<f3"), TypeError, "got <f3"),
        (npy(WEIGHT, "V4"), TypeError, "got V4"),
        (npy(WEIGHT, "<U6", ()), TypeError, "got <U6"),
        (npy(WEIGHT, "x" * 9000), TypeError, "got xxxx"),
        (npy(WEIGHT, shape=(3, 2)), ValueError, "(2, 3), got (3, 2): transposed?"),
        (npy(WEIGHT, shape=(6,)), ValueError, "got (6,)"),
        (npy(WEIGHT, shape="(6)"), ValueError, "shape must be a tuple"),
        (npy(WEIGHT, shape="(-6,)"), ValueError, "header must be a dict"),
        (npy(WEIGHT, shape="(6,,)"), ValueError, "shape must be a tuple"),
        (npy(WEIGHT, shape=(1,) * 65), ValueError, "at most 64 sizes"),
        (npy(WEIGHT, shape="(" + "9" * 500 + ",)"), ValueError, "shape must be a tuple"),
        (npy(WEIGHT, shape=(2**62, 2**62)), ValueError, "d.weight"),
        (npy(WEIGHT, shape=(0, 2**62)), ValueError, "d.weight"),
        (npy(WEIGHT, fortran=1), ValueError, "header must be a dict"),
        (npy(WEIGHT, fortran="'x'"), ValueError, "True or False as fortran_order"),
        (npy(WEIGHT, shape="(__import__('os').abort(),)"), ValueError, "header must be a dict"),
        (npy(WEIGHT, shape="(" * 4000), ValueError, "header must be a dict"),
        (header_like("{'descr': '<f4', 'shape': (2, 3)}"), ValueError, "must be a dict of descr"),
        (header_like("{'fortran_order': False, 'shape': (2, 3), 'descr': '<f8', 'descr': '<f4'}"),
         ValueError, "must be a dict of descr"),
        (header_like("-" * 9000), ValueError, "header must be a dict"),
        (header_like(""), ValueError, "header must be a dict"),
        (header_like("{" * 9000 + "}"), ValueError, "header must be a dict"),
        (header_like("{'descr': '\n\x1b[2J', 'x"), ValueError, "header must be a dict"),
        (header_like(b"\xff\xfe{}"), ValueError, "header must be a dict"),
        (header_like(" " * 20_000), ValueError, "2 to 10000 bytes"),
        (WHOLE.replace(b"NUMPY\1", b"NUMPY\4"), ValueError, "1.0, 2.0 or 3.0, got 4.0"),
        (WHOLE.replace(b"NUMPY", b"NUMPX"), ValueError, "it is not an array"),
        (WHOLE.replace(b"NUMPY\1\0v\0", b"NUMPY\2\0\xff\xff"), ValueError, "2 to 10000 bytes"),
        (WHOLE.replace(b"NUMPY\1\0v\0", b"NUMPY\1\0\0\0"), ValueError, "2 to 10000 bytes"),
        (WHOLE.replace(b"NUMPY\1\0v\0", b"NUMPY\1\0\0\4"), ValueError, "it ends within its header"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [0, DEFLATED])
def test_a_header_that_does_not_fit_is_refused(method, weight, error, words, npz):
    npz.refuses(zip_of(members(weight, method=method)), error, "d.weight", words)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)], ids=str)
def test_arrays_of_one_and_of_no_element_are_read(shape, npz):
    array = draw(*shape)
    more = [Member(b"extra.a.npy", npy(array)), Member(b"extra.b.npy", npy(array, fortran=True))]
    extra = npz.load(zip_of(members(more=more)))
    assert_same_bits(extra["a"], array)
    assert_same_bits(extra["b"], array)
