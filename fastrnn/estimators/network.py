"""The network of the estimators, a recurrent layer with a linear head, and its training.

The head reads the last output of the layer. Each sequence ends at its own length.

It must not know: series, the scales of inputs and targets, scikit-learn.
"""

from __future__ import annotations

import numpy as np

from fastrnn import checks
from fastrnn.layers import CLASSES
from fastrnn.train import Adam, Dense, Dropout, fit

LARGEST_NORM = 1.0  # of a minibatch's gradients
AT_ONCE = 256  # sequences of a call without gradients


class Network:
    """A layer and its head, with the options of an estimator.

    Its inputs are a function of indices (B,) -> (x (T, B, F) float32, lengths (B,) or None).
    """

    def __init__(self, options, features, outputs, rng):
        self.dropout = Dropout(checks.fraction("dropout", options.dropout), rng=rng)
        stacked = checks.positive("num_layers", options.num_layers) > 1
        self.layer = CLASSES[checks.choice("cell", options.cell, CLASSES)](
            features, options.hidden_size, options.num_layers, rng=rng,
            dropout=options.dropout if stacked else 0.0,
            bidirectional=getattr(options, "bidirectional", False),
        )  # fmt: skip
        size = self.layer.hidden_size * self.layer.num_directions
        self.head = Dense(size, outputs, rng=rng)
        self.head.flat[:] = 0  # so that the first outputs are 0, the mean of scaled targets

    def __call__(self, inputs, rows):
        """The outputs (len(rows), K) for indices of sequences."""
        outputs = []
        for x, lengths in map(inputs, np.split(rows, range(AT_ONCE, len(rows), AT_ONCE))):
            _, state = self.layer(x, lengths=lengths)
            outputs.append(self.head(self.layer.last(state)))
        return np.concatenate(outputs)

    def _step(self, x, lengths, targets, loss):
        _, state, tape = self.layer.forward(x, lengths=lengths)
        last, factors = self.dropout.forward(self.layer.last(state))
        value, d_outputs = loss(self.head(last), targets)
        of_head = self.head.backward(last, d_outputs)
        d_last = self.dropout.backward(factors, of_head.x)
        return value, [tape.backward(last=d_last, need_x=False), of_head]

    def train(self, options, inputs, targets, loss, rows, held_out, rng):
        """Train on the indices `rows`, and keep the epoch that is best on `held_out`.

        With an empty `held_out` all epochs are run, and the last one is kept.
        """
        parts = {"layer": self.layer, "dropout": self.dropout, "head": self.head}
        count = -(-len(rows) // checks.positive("batch_size", options.batch_size))
        kept, stops = targets[held_out], len(held_out) > 0
        return fit(
            parts, lambda batch: self._step(*inputs(batch), targets[batch], loss),
            lambda epoch: np.array_split(rng.permutation(rows), count),
            optimizer=Adam([self.layer, self.head], options.learning_rate), epochs=options.epochs,
            validate=(lambda: loss(self(inputs, held_out), kept)[0]) if stops else None,
            patience=options.patience if stops else None,
            clip=LARGEST_NORM, progress=checks.flag("verbose", options.verbose),
        )  # fmt: skip
