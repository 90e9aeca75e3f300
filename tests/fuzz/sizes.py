"""Sizes of a case, (T, B, I, H): small ones at the edges of vectors and tiles, and sizes at which
the kernels divide the work differently.

It must not know: layers, what is computed.
"""

EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 23, 31, 32, 33)

# Bounds of a case's cost: multiply-adds of a forward pass, weights, steps that the reference takes.
_MULTIPLY_ADDS = 8_000_000
_MULTIPLY_ADDS_OF_MANY = 60_000_000
_WEIGHTS = 400_000
_STEPS = 160


def _edge(rng):
    return int(rng.choice(EDGES))


def _between(rng, least, most):
    return int(rng.integers(least, most + 1))


def _edges(rng):
    return _between(rng, 1, 9), _edge(rng), _edge(rng), _edge(rng)


def _small(rng):
    return tuple(_between(rng, 1, 9) for _ in range(4))


def _any(rng):
    return tuple(_between(rng, 1, 40) for _ in range(4))


def _groups(rng):
    """Few weights and many rows: backward sums over groups of rows separately."""
    return _between(rng, 1, 7), _between(rng, 16, 128), _between(rng, 1, 20), _between(rng, 30, 100)


def _slices(rng):
    """Many units and few rows: threads take slices of the units."""
    inputs = _between(rng, 1, 40) if rng.random() < 0.6 else _between(rng, 20, 260)
    return _between(rng, 1, 8), _between(rng, 1, 5), inputs, _between(rng, 100, 400)


def _chunks(rng):
    """More rows and steps than a chunk of a backward pass has."""
    batch = _between(rng, 4, 64)
    return _between(rng, 256, 2600) // batch, batch, _between(rng, 1, 16), _between(rng, 1, 12)


def _many(rng):
    """So many rows that sums over them go by blocks, in some cases also within groups."""
    steps = _between(rng, 20, 40)
    return steps, _between(rng, 8193, 24_000) // steps, _between(rng, 1, 6), _between(rng, 1, 50)


def _long(rng):
    return _between(rng, 60, _STEPS), _between(rng, 1, 3), _between(rng, 1, 12), _between(rng, 1, 9)


def _wide(rng):
    """So many inputs that they are projected before the steps, chunk by chunk."""
    return _between(rng, 1, 12), _between(rng, 1, 6), _between(rng, 50, 500), _between(rng, 1, 40)


def _degenerate(rng):
    """At least one size is 0."""
    sizes = [_edge(rng) for _ in range(3)]
    sizes[_between(rng, 0, 2)] = 0
    return *(int(rng.choice((0, 1, n))) if n else 0 for n in sizes), _edge(rng)


PROFILES = {
    "edges": (_edges, 6),
    "small": (_small, 6),
    "any": (_any, 3),
    "groups": (_groups, 4),
    "slices": (_slices, 2),
    "chunks": (_chunks, 2),
    "many": (_many, 1),
    "long": (_long, 1),
    "wide": (_wide, 2),
    "degenerate": (_degenerate, 2),
}


def drawn(rng, gates, passes_per_layer, layers):
    """The name of a profile, and random sizes of it within the bounds of a case's cost."""
    names, weights = list(PROFILES), [weight for _, weight in PROFILES.values()]
    name = names[rng.choice(len(names), p=[w / sum(weights) for w in weights])]
    t, b, i, h = PROFILES[name][0](rng)
    t = min(t, max(1, _STEPS // (layers * passes_per_layer)))
    cost = _MULTIPLY_ADDS_OF_MANY if name == "many" else _MULTIPLY_ADDS
    most = cost // (t * b) if name == "many" else _WEIGHTS
    while _weights(i, h, gates, passes_per_layer, layers) > most and h > 1:
        i, h = (i * 7 // 8, h) if i > h else (i, h * 7 // 8)
    weights = _weights(i, h, gates, passes_per_layer, layers)
    t = max(min(t, 1), min(t, cost // weights // max(b, 1)))
    b = max(min(b, 1), min(b, cost // weights // max(t, 1)))
    return name, (t, b, i, h)


def _weights(i, h, gates, passes_per_layer, layers):
    of_first, of_others = i + h, (passes_per_layer * h + h) * (layers - 1)
    return gates * h * passes_per_layer * (of_first + of_others)
