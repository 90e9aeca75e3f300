"""Mutants of valid files."""

import copy
import json
import re

from strangers import Member, tensors_of, zip_of

_ODD = (0, 1, 0x7F, 0x80, 0xFF)
_TEXTS = (
    b"0", b"-1", b"1e9", b"99999999999999999999", b"null", b"[]", b"{}", b"True", b"'", b'"', b"(",
    b")", b"[", b"{", b"\\", b"\\ud800", b"\0", b"\xff", b"<f8", b">f4", b"|O", b"F8_E4M3", b"BF16",
)  # fmt: skip


def mutant(rng, whole):
    """A random mutant of a valid file."""
    data = bytearray(whole)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        _KINDS[rng.integers(len(_KINDS))](rng, data)
    return bytes(data)


def _flip(rng, data):
    if data:
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))


def _set(rng, data):
    """Set some bytes to odd values: very small or very large numbers."""
    at, count = rng.integers(len(data) + 1), rng.choice([1, 2, 4, 8])
    data[at : at + count] = bytes([rng.choice(_ODD)]) * len(data[at : at + count])


def _cut(rng, data):
    at, count = rng.integers(len(data) + 1), rng.integers(1, 64)
    del data[at : at + count if rng.integers(2) else len(data)]


def _insert(rng, data):
    at = rng.integers(len(data) + 1)
    data[at:at] = rng.bytes(rng.integers(1, 16))


def _splice(rng, data):
    """Copy a piece to another offset, over the bytes there or before them."""
    at, to, count = (int(n) for n in rng.integers(0, len(data) + 1, 3))
    count = min(count, 200)
    data[to : to + count * int(rng.integers(2))] = data[at : at + count]


def _edit(rng, data):
    """Replace a word or number of a header by another text."""
    words = list(re.finditer(rb"[A-Za-z_]{2,}|\d+|[][(){}:,'\"]|PK..", bytes(data)))
    if words:
        word = words[rng.integers(len(words))]
        data[word.start() : word.end()] = _TEXTS[rng.integers(len(_TEXTS))]


_KINDS = (_flip, _set, _cut, _insert, _splice, _edit, _edit)


def mutant_of_members(rng, members):
    """A zip file of changed members, with the right checksums for them."""
    members = [Member(m.name, m.data, m.method) for m in members]
    at = rng.integers(len(members))
    which = rng.integers(4)
    if which == 0:
        members[at].name = mutant(rng, members[at].name)
    elif which == 1:
        members.append(members[at])
    else:
        members[at].data = mutant(rng, members[at].data)
    return zip_of(members)


def mutant_of_header(rng, header, data):
    """A .safetensors with a changed header, whose length is right."""
    return tensors_of(mutant(rng, header), data)


_VALUES = (
    None, True, False, 0, 1, -1, 2, 0.5, 1e300, -1e-300, float("nan"), float("inf"), 2**63, 10**400,
    "", "x", "x" * 500, "\ud800", "\0", "lstm", "min_gru", "sum", "relu", "orthogonal", [], [0.5],
    [0.5, 0.25], [None], [[]], {}, {"a": 1}, [0] * 100,
)  # fmt: skip


def mutant_of_json(rng, value):
    """The JSON of an object in which a value or a name is another one."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 2])):
        parent = _parent(rng, value)
        key = rng.choice(list(parent))
        which = rng.integers(4)
        if which == 0:
            parent["x" * int(rng.integers(300))] = parent.pop(key)
        elif which == 1:
            del parent[key]
        else:
            parent[key] = _VALUES[rng.integers(len(_VALUES))]
    return json.dumps(value)


def _parent(rng, value):
    """One of the objects in an object that have values, at any depth."""
    found = [value]
    for parent in found:
        found += [child for child in parent.values() if isinstance(child, dict) and child]
    return found[rng.integers(len(found))]
