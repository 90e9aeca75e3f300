"""Ridge regression: the linear part of a forecast.

Hoerl and Kennard, Ridge regression: biased estimation for nonorthogonal problems, 1970.

It must not know: series, networks.
"""

import numpy as np

PENALTIES = 10.0 ** np.arange(6)  # beside the squares of regressors of about unit size


class Ridge:
    """A regression of y (N, H) on x (N, F), learnt from the indices `rows`.

    The penalty is the one of PENALTIES with the smallest squared error on the indices `held_out`.
    """

    def __init__(self, x, y, rows, held_out):
        self.mean, self.level = x[rows].mean(axis=0), y[rows].mean(axis=0)
        known = x[rows] - self.mean
        squares, products = known.T @ known, known.T @ (y[rows] - self.level)
        least = np.inf
        for penalty in PENALTIES:
            weights = np.linalg.solve(squares + penalty * np.eye(len(squares)), products)
            error = np.sum((self._product(x[held_out], weights) - y[held_out]) ** 2)
            if error < least:
                least, self.weights = error, weights

    def __call__(self, x):
        """(B, F) -> (B, H)."""
        return self._product(x, self.weights)

    def _product(self, x, weights):
        return (x - self.mean) @ weights + self.level
