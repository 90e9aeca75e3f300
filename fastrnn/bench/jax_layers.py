"""The cells as JAX functions, as a JAX user writes them; the peer compiles them.

Layout: PyTorch's names and shapes throughout; states is (h,) or (h, c), each (layers *
directions, B, H).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fastrnn.bench.cases import suffixes


def lstm_step(states, gi, w, b_hh):
    h, c = states
    i, f, g, o = jnp.split(gi + h @ w, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_step(states, gi, w, b_hh):
    (h,) = states
    r, z, n = jnp.split(gi, 3, axis=-1)
    hr, hz, hn = jnp.split(h @ w + b_hh, 3, axis=-1)
    r, z = jax.nn.sigmoid(r + hr), jax.nn.sigmoid(z + hz)
    n = jnp.tanh(n + r * hn)
    return ((1 - z) * n + z * h,)


def gru_before_step(states, gi, w, b_hh):
    (h,) = states
    size = h.shape[-1]
    r, z = jnp.split(jax.nn.sigmoid(gi[..., : 2 * size] + h @ w[:, : 2 * size]), 2, axis=-1)
    n = jnp.tanh(gi[..., 2 * size :] + (r * h) @ w[:, 2 * size :])
    return ((1 - z) * n + z * h,)


def rnn_step(states, gi, w, b_hh):
    (h,) = states
    return (jnp.tanh(gi + h @ w),)


STEPS = {"lstm": lstm_step, "gru": gru_step, "gru-before": gru_before_step, "rnn": rnn_step}


def forward(weights, x, states, *, cell, layers, directions, hoist):
    """`hoist` transposes the recurrent weights before the scan, not in its step: 5 times faster in
    some cases, a little slower in others."""
    ends = []
    for layer in range(layers):
        ys = []
        for index, suffix in enumerate(suffixes(layer, directions)):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            w_ih, w_hh, b_ih, b_hh = (weights[name + suffix] for name in names)
            # Only the GRU with the reset after the product needs b_hh inside the step.
            gi = x @ w_ih.T + (b_ih if cell == "gru" else b_ih + b_hh)

            recurrent = w_hh.T if hoist else w_hh

            def step(carry, gi_t, w=recurrent, b_hh=b_hh):
                carry = STEPS[cell](carry, gi_t, w if hoist else w.T, b_hh)
                return carry, carry[0]

            start = tuple(state[layer * directions + index] for state in states)
            end, y = jax.lax.scan(step, start, gi, reverse=index == 1)
            ends.append(end)
            ys.append(y)
        x = jnp.concatenate(ys, axis=-1)
    return x, tuple(jnp.stack(state) for state in zip(*ends, strict=True))


def train(weights, x, states, dy, **static):
    def of(weights, x):
        return forward(weights, x, states, **static)

    y, backward, ends = jax.vjp(of, weights, x, has_aux=True)
    return y, ends, backward(dy)
