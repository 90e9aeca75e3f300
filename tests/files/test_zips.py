"""Strangers' zips: valid ones are read, others refused with the member and the reason."""

import struct

import numpy as np
import pytest
from strangers import DEFLATED, WHOLE, Member, deflated, members, npy, zip_of

pytestmark = pytest.mark.no_kernels


@pytest.mark.parametrize("method", [0, DEFLATED])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"comment": b"a comment"},
        {"comment": b"PK\5\6" + b"x" * 18},  # like an end record
        {"zip64": True},
        {"before": b"what unpacks itself"},
    ],
    ids=["plain", "comment", "comment like an end", "zip64", "something before"],
)
def test_a_zip_that_is_right_is_read(method, options, npz):
    files = members(method=method)
    files[0].comment, files[0].extra = b"of one member", struct.pack("<2H4s", 0x5455, 4, b"date")
    assert npz.load(zip_of(files, **options)) == {}
    npz.holds()


def test_sizes_beyond_32_bits_are_in_the_field_of_zip64(npz):
    files = members(sizes=(2**32 - 1, 2**32 - 1))
    size = len(files[0].data)
    files[0].extra = struct.pack("<2H4s", 7, 4, b"what") + struct.pack("<2H2Q", 1, 16, size, size)
    npz.load(zip_of(files))
    npz.holds()


@pytest.mark.parametrize("extra", [b"", struct.pack("<2HQ", 1, 8, 152), b"\1\0\xff\xff", b"\1"])
def test_a_field_of_zip64_that_is_missing_or_too_short_is_missed(extra, npz):
    files = members(sizes=(2**32 - 1, 2**32 - 1), extra=extra)
    npz.refuses(zip_of(files), ValueError, "d.weight", "zip64 field is missing")


def test_members_may_stand_in_any_order_and_lack_their_suffix(npz):
    files = members()
    files[1].name = b"d.bias"
    npz.load(zip_of(files[::-1]))
    npz.holds()


SHORT = deflated(WHOLE[:-1])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (members(method=12), ["d.weight", "stored or deflated, got compression 12"]),
        (members(method=14), ["got compression 14"]),
        (members(flags=1), ["d.weight", "encrypted"]),
        (members(flags=0x40), ["encrypted"]),
        (members(local={"flags": 1}), ["d.weight", "local header"]),
        (members(local={"name": b"d.wei\0ht.npy"}), ["d.weight", "local header"]),
        (members(local={"method": 8}), ["local header"]),
        (members(local={"begin": 3}), ["local header"]),
        (members(local={"begin": 2**31}), ["d.weight", "beyond the members"]),
        (members(crc=1), ["d.weight", "checksum"]),
        (members(method=8, crc=1), ["d.weight", "checksum"]),
        (members(sizes=(152, 151)), ["d.weight", "152 bytes, but its size is 151"]),
        (members(sizes=(2**31, 2**31)), ["d.weight", "local header"]),
        (members(method=8, sizes=(len(deflated(WHOLE)), 200)), ["d.weight", "24 by its dtype"]),
        (members(method=8, packed=SHORT, sizes=(len(SHORT), 152)), ["fewer bytes"]),
        (members(method=8, packed=deflated(WHOLE + b"\0")), ["more bytes than its directory"]),
        (members(method=8, packed=deflated(WHOLE) + b"\0"), ["end elsewhere"]),
        (members(method=8, packed=deflated(WHOLE)[:-4]), ["fewer bytes"]),
        (members(method=8, packed=b"\6" * 30), ["d.weight", "cannot be inflated"]),
        (members(method=8, packed=b""), ["fewer bytes"]),
        (members(b""), ["d.weight", "too short"]),
        (members(WHOLE + b"\0"), ["25 bytes of elements by its directory, but 24"]),
        (members(WHOLE[:-1]), ["23 bytes of elements by its directory, but 24"]),
        (members(WHOLE[:50]), ["it ends within its header"]),
        (members(more=members()[:1]), ["d.weight", "twice"]),
        (members(more=[Member(b"d.weight", WHOLE)]), ["d.weight", "twice"]),
        (members(more=[Member(b"extra.a.npy", WHOLE), Member(b"extra.a", WHOLE)]), ["twice"]),
        (members(more=[Member(b"\xff", WHOLE, flags=0x800)]), ["not UTF-8"]),
    ],
)  # fmt: skip
def test_a_zip_that_is_not_what_it_says_is_refused(files, words, npz):
    npz.refuses(zip_of(files), ValueError, "cannot be read as .npz", *words)


@pytest.mark.parametrize(
    "name",
    [b"d.weight\0.npy", b"../d.weight.npy", b"/d.weight.npy", b"d/", b"", b".npy", 
     b"d.weight.npy.npy", b"D.weight.npy", b"x" * 65535, b"a\r\nb", b"optimizers.x.npy"],
)  # fmt: skip
def test_a_name_that_is_nearly_one_is_another(name, npz):
    more = [Member(name, b"", crc=1)]
    npz.refuses(zip_of(members(more=more)), ValueError, "unknown are")


def test_members_that_overlap_are_refused(npz):
    weight, bias = members()
    inside = zip_of([bias])[: 30 + len(bias.name) + len(bias.data)]
    outside = Member(b"extra.t.npy", npy(np.frombuffer(inside, "u1")))
    before = zip_of([weight, outside])
    bias.local["begin"] = before.index(inside)
    npz.refuses(zip_of([weight, outside, bias]), ValueError, "d.bias", "overlaps another")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 1}, "more entries than it says"),
        ({"count": 3}, "not where its end record says"),
        ({"count": 2**16 - 1}, "zip64 locator is missing"),
        ({"begin": 0}, "not where its end record says"),
        ({"begin": 2**32 - 1}, "zip64 locator is missing"),
        ({"size": 0}, "not where its end record says"),
        ({"begin": 2**63, "zip64": True}, "not where its end record says"),
        ({"size": 2**64 - 1, "zip64": True}, "not where its end record says"),
        ({"count": 2**64 - 1, "zip64": True}, "not where its end record says"),
    ],
)
def test_an_end_record_that_lies_is_refused(options, words, npz):
    npz.refuses(zip_of(members(), **options), ValueError, words)


def test_a_locator_that_leads_nowhere_is_refused(npz):
    whole = zip_of(members(), zip64=True)
    at = whole.index(b"PK\6\7") + 8
    for where in (0, at, len(whole), 2**64 - 1):
        lie = whole[:at] + struct.pack("<Q", where) + whole[at + 8 :]
        npz.refuses(lie, ValueError, "zip64")


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\5\6", b"PK\5\6" + bytes(17), bytes(100)])
def test_what_is_no_zip_is_refused(data, npz):
    npz.refuses(data, ValueError, "cannot be read as .npz: it is no zip file")


def test_a_zip_without_members_is_missing_all(npz):
    npz.refuses(zip_of([]), ValueError, "missing are d.weight, d.bias; unknown are none")
