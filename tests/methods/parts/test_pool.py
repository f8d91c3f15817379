"""The pool of pictures that discriminators are shown."""

import jax
import jax.numpy as jnp
import numpy as np

from productgen.core.rng import sample_keys
from productgen.methods.parts import pool


def test_a_pool_fills_and_then_exchanges_half_of_the_pictures():
    size, state, seen, swaps = 5, pool.empty(5, (1, 1, 1)), [], 0
    step = jax.jit(pool.exchange)
    for i in range(60):
        images = jnp.asarray([2.0 * i + 1, 2.0 * i + 2]).reshape(2, 1, 1, 1)
        before = np.asarray(state['pictures']).ravel()
        state, shown = step(state, images, sample_keys(jax.random.key(0), 2 * i + jnp.arange(2)))
        after, shown, images = (np.asarray(x).ravel() for x in (state['pictures'], shown, images))
        if 2 * i + 2 <= size:
            assert np.array_equal(shown, images) and int(state['count']) == 2 * i + 2
            continue
        assert int(state['count']) == size
        # Nothing is lost: what goes in and what was there is what comes out and what is there now.
        if i > size // 2:
            assert sorted([*before, *images]) == sorted([*after, *shown])
            swaps += int((shown != images).sum())
            seen += list(images - shown)
    assert 0.3 < swaps / 114 < 0.7 and max(seen) > 4


def test_a_pool_takes_pictures_one_after_the_other():
    keys = sample_keys(jax.random.key(1), jnp.arange(12))
    images = jnp.arange(1.0, 13).reshape(12, 1, 1, 1)
    exchange = jax.jit(pool.exchange)
    state, shown = exchange(pool.empty(3, (1, 1, 1)), images, keys)
    each, one = pool.empty(3, (1, 1, 1)), []
    for i in range(12):
        each, image = exchange(each, images[i : i + 1], keys[i : i + 1])
        one.append(image)
    assert np.array_equal(shown, np.concatenate(one)) and np.array_equal(state['pictures'], each['pictures'])
