"""Sequences of unequal lengths as one array, and tokens as ids.

It must not know: networks.
"""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Set
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import checks

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable
    from typing import Any

    from numpy.typing import ArrayLike, NDArray


def pad(
    sequences: Iterable[ArrayLike], *, batch_first: bool = False, value: float = 0
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Put sequences of unequal lengths into one array, each one filled up at its end.

    Parameters
    ----------
    sequences : list of (T,) arrays of ids, or of (T, F) arrays
        All have the same dtype and the same F. Lists of Python's numbers will do: integers become
        int64, floats become float64. A sequence may be empty.
    batch_first : bool
        The axis of rows comes first, as in a layer with batch_first.
    value : number
        What fills up: an integer for sequences of integers, rounded to their dtype for floats.
        Layers do not read it if they get the lengths; an embedding does, so it should be an id.

    Returns
    -------
    x : (T, B) or (T, B, F) array, with batch_first (B, T) or (B, T, F)
        T is the length of the longest sequence. The dtype is that of the sequences.
    lengths : (B,) array of int64
        The argument `lengths` of a layer's call.

    Raises
    ------
    ValueError
        For no sequences, for shapes that differ in more than the length, and for a value that is
        no integer of their dtype.
    TypeError
        For sequences that are no numbers, or of several dtypes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import train
    >>> x, lengths = train.pad([[3, 1, 2], [4, 1]], batch_first=True)
    >>> x, lengths
    (array([[3, 1, 2],
           [4, 1, 0]]), array([3, 2]))

    Sequences of two features, for a layer:

    >>> import fastrnn
    >>> x, lengths = train.pad([np.ones((5, 2), "float32"), np.ones((3, 2), "float32")])
    >>> y, h = fastrnn.GRU(2, 4, rng=0)(x, lengths=lengths)
    >>> x.shape, y.shape, bool((y[3:, 1] == 0).all())
    ((5, 2, 2), (5, 2, 4), True)
    """
    arrays = _arrays(sequences)
    dtype, features = arrays[0].dtype, arrays[0].shape[1:]
    lengths = np.array([len(array) for array in arrays], np.int64)
    longest, batch = int(lengths.max()), len(arrays)
    checks.fits(dtype.itemsize, longest, batch, *features)
    batch_first = checks.flag("batch_first", batch_first)
    shape = (batch, longest) if batch_first else (longest, batch)
    x = np.full((*shape, *features), _filler(value, dtype), dtype)
    for row, array in zip(x if batch_first else x.swapaxes(0, 1), arrays, strict=True):
        row[: len(array)] = array
    return x, lengths


def _arrays(sequences):
    """The sequences as arrays of one dtype, whose shapes differ in the first axis alone."""
    if isinstance(sequences, str | bytes | Mapping | Set):
        got = type(sequences).__name__
        raise TypeError(f"sequences must be a list of sequences, got {got}")
    sequences = _list_of("sequences", sequences, "a list of sequences")
    arrays = [_array(f"sequences[{i}]", sequence) for i, sequence in enumerate(sequences)]
    # NumPy makes floats of an empty list, which says nothing of its dtype.
    typed = [i for i, s in enumerate(sequences) if isinstance(s, np.ndarray) or len(arrays[i])]
    if not typed:
        raise ValueError(
            f"sequences must have at least one with elements or a dtype, got {len(arrays)} without"
        )
    like = arrays[typed[0]]
    for i in typed:
        if arrays[i].dtype != like.dtype:
            floats = like.dtype.kind == "f"  # a cast of floats to integers would lose fractions
            to = like.dtype if floats else np.result_type(like, arrays[i])
            raise TypeError(
                f"sequences must have one dtype, got {like.dtype} in sequences[{typed[0]}] and "
                f"{arrays[i].dtype} in sequences[{i}]: cast them, for example with "
                f"np.asarray(sequence, {str(to)!r})"
            )
        if arrays[i].shape[1:] != like.shape[1:]:
            raise ValueError(
                f"sequences must have shapes that differ in their length alone, got {like.shape} "
                f"in sequences[{typed[0]}] and {arrays[i].shape} in sequences[{i}]"
            )
    empty = set(range(len(arrays))).difference(typed)
    return [like[:0] if i in empty else array for i, array in enumerate(arrays)]


def _list_of(name, value, wanted):
    """The elements of an iterable."""
    try:
        return list(value)
    except TypeError:
        if hasattr(value, "__next__"):  # the error is one of the user's generator
            raise
        raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}") from None


def _array(name, sequence):
    array = checks.converted(name, sequence, "(T,) or (T, F)")
    if array.ndim == 0 and array.dtype.kind in "iuf":
        raise ValueError(f"{name} must be (T,) or (T, F), got the number {array}: use [sequence]")
    if array.dtype.kind not in "iuf":
        hint = ": encode tokens with a Vocabulary" if array.dtype.kind in "US" else ""
        raise TypeError(f"{name} must be integers or floats, got dtype {array.dtype}{hint}")
    return array


def _filler(value, dtype):
    """The value as a number of the dtype."""
    number = checks.number("value", value, "a number", lambda _: True)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            overflows = np.isfinite(number) and not np.isfinite(dtype.type(number))
        if overflows:
            raise ValueError(f"value must be a number that {dtype} can hold, got {value}")
        return number
    most = np.iinfo(dtype)
    whole = int(value) if np.isfinite(number) else None  # of a large int, number is rounded
    if whole is None or whole != value or not most.min <= whole <= most.max:
        raise ValueError(f"value must be an integer that {dtype} can hold, got {value}")
    return whole


class Vocabulary:
    """Tokens and their ids, which count from 0 in the order in which the tokens first occur.

    Parameters
    ----------
    tokens : iterable
        Words, characters (a text is one of its characters) or anything hashable. Each one may occur
        any number of times.
    unknown : token or None
        A token with id 0 for all that are not in the vocabulary. With None `encode` refuses them.

    Raises
    ------
    TypeError
        For a set, whose order differs between processes, and for tokens that are not hashable.

    Examples
    --------
    >>> from fastrnn import train
    >>> words = train.Vocabulary("you are good you are bad".split(), unknown="?")
    >>> len(words), words.tokens
    (5, ('?', 'you', 'are', 'good', 'bad'))
    >>> ids = words.encode("are you well".split())
    >>> ids
    array([2, 1, 0])
    >>> words.decode(ids)
    ['are', 'you', '?']

    The characters of a text; the same vocabulary again, from its tokens:

    >>> letters = train.Vocabulary("banana")
    >>> "".join(letters.decode(letters.encode("nab"))), "x" in letters
    ('nab', False)
    >>> train.Vocabulary(letters.tokens).tokens == letters.tokens
    True
    """

    def __init__(self, tokens: Iterable[Hashable], *, unknown: Hashable | None = None) -> None:
        # The order of a set differs between processes; that of a dict's keys does not.
        if isinstance(tokens, Set) and not isinstance(tokens, KeysView):
            raise TypeError("tokens must be in an order, got a set: use sorted(tokens)")
        first = [] if unknown is None else _hashable("unknown", [unknown])
        self._unknown = unknown
        self._tokens = tuple(dict.fromkeys([*first, *_hashable("tokens", tokens)]))
        self._ids = {token: index for index, token in enumerate(self._tokens)}

    @property
    def tokens(self) -> tuple[Any, ...]:
        """The tokens; the index is the id."""
        return self._tokens

    @property
    def unknown(self) -> Any:
        """The token for all that are not in the vocabulary, or None."""
        return self._unknown

    def encode(self, tokens: Iterable[Hashable]) -> NDArray[np.int64]:
        """The ids of tokens.

        Parameters
        ----------
        tokens : iterable of tokens

        Returns
        -------
        ids : (T,) array of int64

        Raises
        ------
        ValueError
            For a token that is not in the vocabulary, unless there is one for unknown tokens.
        TypeError
            For a text, if tokens are longer than one character, and for a list of lists.

        Examples
        --------
        >>> from fastrnn import train
        >>> train.Vocabulary("abc").encode("cab")
        array([2, 0, 1])
        """
        if isinstance(tokens, str) and any(
            isinstance(token, str) and len(token) > 1 and token != self.unknown
            for token in self.tokens
        ):
            raise TypeError(
                "tokens must be a list of tokens, got str, whose elements are characters: split "
                "it into tokens as those of the vocabulary were, for example with text.split()"
            )
        tokens = _hashable("tokens", tokens)
        if self.unknown is not None:
            return np.array([self._ids.get(token, 0) for token in tokens], np.int64)
        try:
            return np.array([self._ids[token] for token in tokens], np.int64)
        except KeyError as error:
            raise ValueError(
                f"tokens must be in the vocabulary of {len(self)}, got {error.args[0]!r}: make it "
                "with unknown= for a token that stands for all others"
            ) from None

    def decode(self, ids: ArrayLike) -> list[Any]:
        """The tokens of ids.

        Parameters
        ----------
        ids : (T,) array of integers from 0 to len - 1

        Returns
        -------
        tokens : list of T tokens

        Raises
        ------
        ValueError, TypeError
            For arrays of another shape, and for numbers that are no ids.

        Examples
        --------
        >>> from fastrnn import train
        >>> train.Vocabulary("abc").decode([2, 0, 1])
        ['c', 'a', 'b']
        """
        ids = checks.ids("ids", ids, len(self))
        if ids.ndim != 1:
            raise ValueError(f"ids must be (T,), got {ids.shape}: decode one sequence at a time")
        return [self.tokens[index] for index in ids]

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __repr__(self) -> str:
        return f"<fastrnn.train.Vocabulary of {len(self)} tokens>"


def _hashable(name, tokens):
    """The tokens as a list; TypeError for what is no list, and for tokens that are not hashable."""
    tokens = _list_of(name, tokens, "a list of tokens")
    for token in tokens:
        try:
            hash(token)
        except TypeError:
            kind = type(token).__name__
            raise TypeError(
                f"{name} must be hashable, such as words, got {kind}: give one list of tokens, "
                "not a list of lists"
            ) from None
    return tokens
