"""Models that count: what nets that read characters have to be compared with.

It must not know: any demo's data. Symbols are whole numbers from 0 to letters - 1.
"""

import numpy as np


def bits(known, judged, letters, order, discount):
    """-log2 p per symbol of a text, by an n-gram model of another; the first symbol is not judged.

    The probability of a symbol s after a context c of k symbols is what was counted, a discount D
    taken off each count, and what D has saved goes to the model of order k - 1, whose context c'
    lacks the first symbol:

        (K1)  p_k(s | c) = (max(n(c s) - D, 0) + D d(c) p_{k-1}(s | c')) / n(c)

    n(c s) of the highest order counts how often c s stands in the known text. Of lower orders it
    counts the different symbols that stand before c s there, for they are asked where longer
    contexts were not seen. n(c) = sum_s n(c s), d(c) is the number of different s after c, and
    p_{-1} = 1 / letters.

    Parameters
    ----------
    known, judged : 1-D arrays
        The texts; the model counts in the first.
    letters : int
        letters**(order + 1) must not be above 2**63.
    order : int
        Symbols that the model looks back; where the text begins, it has fewer.
    discount : float
        D, from 0 to 1.

    Notes
    -----
    Interpolated Kneser-Ney: Kneser and Ney, Improved backing-off for m-gram language modeling,
    1995; Chen and Goodman, An empirical study of smoothing techniques for language modeling, 1999.
    """
    p = np.full(len(judged), 1 / letters)
    for k in range(order + 1):
        runs, n_run = _runs(known, k + 1, letters, highest=k == order)
        contexts, place, d = np.unique(runs // letters, return_inverse=True, return_counts=True)
        n = np.bincount(place, n_run)
        queries = _numbers(judged, k + 1, letters)  # of the symbols from the k-th on
        n_cs = _looked_up(runs, n_run, queries, 0)
        n_c, d_c = (_looked_up(contexts, of, queries // letters, 0) for of in (n, d))
        seen, lower = n_c > 0, p[k:]
        kept = np.maximum(n_cs - discount, 0) + discount * d_c * lower
        lower[seen] = kept[seen] / n_c[seen]  # (K1)
    return float(-np.log2(p[1:]).mean())


def tags(known, known_tags, judged, letters, widest):
    """The most frequent tag of a symbol with its neighbours on both sides.

    Parameters
    ----------
    known, known_tags, judged : 1-D arrays
        Symbols and their tags, whole numbers from 0; symbols to tag.
    letters : int
        letters**(2 * widest + 1) must not be above 2**63.
    widest : int
        Neighbours on each side, at most.

    Returns
    -------
    list of arrays like judged
        Tags by windows of 0, 1, ..., widest neighbours; where a window was never seen, by the next
        narrower.
    """
    kinds = known_tags.max() + 1
    best, by_width = np.full(len(judged), np.bincount(known_tags).argmax()), []
    for width in range(widest + 1):
        windows, queries = (
            _numbers(np.pad(ids, width), 2 * width + 1, letters) for ids in (known, judged)
        )
        windows, place = np.unique(windows, return_inverse=True)
        counts = np.bincount(place * kinds + known_tags, minlength=len(windows) * kinds)
        likeliest = counts.reshape(len(windows), kinds).argmax(axis=1)
        best = _looked_up(windows, likeliest, queries, best)
        by_width.append(best)
    return by_width


def _numbers(ids, length, letters):
    """(N - length + 1,): each run of so many symbols as one number, digits to the base letters."""
    count = len(ids) - length + 1
    numbers = np.zeros(count, np.int64)
    for i in range(length):
        numbers = numbers * letters + ids[i : i + count]
    return numbers


def _runs(ids, length, letters, highest):
    """The different runs of so many symbols, as sorted numbers, and n of each, see (K1)."""
    if highest:
        runs = _numbers(ids, length, letters)
    else:
        runs = np.unique(_numbers(ids, length + 1, letters)) % letters**length
    return np.unique(runs, return_counts=True)


def _looked_up(keys, values, wanted, otherwise):
    """values of the keys wanted, otherwise where there is no such key; keys are sorted."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], otherwise)
