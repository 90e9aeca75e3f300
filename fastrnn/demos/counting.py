"""Models that count symbols: the baselines of networks that read characters.

Symbols are integers from 0 to letters - 1. It must not know: any demo's data.
"""

import numpy as np


def bits(known, judged, letters, order, discount):
    """-log2 p per symbol of a text, by an n-gram model of another; the first symbol does not count.

    The probability of a symbol s after a context c of k symbols follows from counts. Each count is
    reduced by a discount D. The probability that becomes free goes to the model of order k - 1,
    whose context c' is c without its first symbol:

        (K1)  p_k(s | c) = (max(n(c s) - D, 0) + D d(c) p_{k-1}(s | c')) / n(c)

    For the highest order n(c s) is the number of times that c s is in the known text. For lower
    orders it is the number of different symbols before c s there, because lower orders matter where
    longer contexts are unknown. n(c) = sum_s n(c s), d(c) is the number of different s after c, and
    p_{-1} = 1 / letters.

    Parameters
    ----------
    known, judged : 1-D arrays
        Two texts. The model counts in `known`; the result is for `judged`.
    letters : int
        letters**(order + 1) must not be above 2**63.
    order : int
        The number of symbols in a context; there are fewer at the beginning of the text.
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
    """The most frequent tag of each window of a symbol and its neighbours on both sides.

    Parameters
    ----------
    known, known_tags, judged : 1-D arrays
        Symbols, their tags (integers from 0), and symbols to tag.
    letters : int
        letters**(2 * widest + 1) must not be above 2**63.
    widest : int
        The most neighbours on each side.

    Returns
    -------
    list of arrays like judged
        The tags by windows of 0, 1, ..., widest neighbours. For an unknown window the next
        narrower one decides.
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
    """(N - length + 1,): each run of `length` symbols as a number with the base `letters`."""
    count = len(ids) - length + 1
    numbers = np.zeros(count, np.int64)
    for i in range(length):
        numbers = numbers * letters + ids[i : i + count]
    return numbers


def _runs(ids, length, letters, highest):
    """The different runs of `length` symbols as sorted numbers, and n of (K1) for each."""
    if highest:
        runs = _numbers(ids, length, letters)
    else:
        runs = np.unique(_numbers(ids, length + 1, letters)) % letters**length
    return np.unique(runs, return_counts=True)


def _looked_up(keys, values, wanted, otherwise):
    """The values of the wanted keys, `otherwise` for unknown ones; keys are sorted."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], otherwise)
