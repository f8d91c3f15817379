"""The Transformer against Flax's own attention, counts by hand, and itself one position at a time."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.nets.transformer import Block, Transformer, generate

K, SHAPE, C, LAYERS, LABELS = 11, (2, 3), 8, 2, 5
T = SHAPE[0] * SHAPE[1]
MODEL = Transformer(K, SHAPE, C, LAYERS, heads=2)
DRAW = np.random.default_rng(0)
CODES = jnp.asarray(DRAW.integers(0, K, (3, T)), jnp.int32)
LABEL = jnp.asarray(np.eye(LABELS, dtype=np.float32)[[0, 3, 3]])


def louder(params, scale=10.0):
    """Initial weights are so small that every distribution would be even."""
    return jax.tree.map(lambda x: x * scale if x.ndim > 1 else x, params)


@pytest.fixture(scope='module')
def params():
    return louder(jax.jit(MODEL.init)(jax.random.key(0), CODES, LABEL)['params'])


@jax.jit
def logits_of(params, codes, label):
    return MODEL.apply({'params': params}, codes, label)


def keys(*seeds):
    return jax.vmap(jax.random.key)(jnp.asarray(seeds))


def test_parameter_count(params):
    norm = 2 * C
    block = 2 * norm + (C * 3 * C + 3 * C) + (C * C + C) + (C * 4 * C + 4 * C) + (4 * C * C + C)
    expected = K * C + C + LABELS * C + sum(SHAPE) * C + LAYERS * block + norm + (C * K + K)
    assert sum(x.size for x in jax.tree.leaves(params)) == expected


def test_parameter_count_of_gpt2():
    """Text: 124,439,808 in Radford et al.'s smallest model, which shares its input and output embeddings."""
    gpt = Transformer(50257, (1024,), 768, 12, 12)
    tokens = jax.ShapeDtypeStruct((1, 1024), jnp.int32)
    params = jax.eval_shape(gpt.init, jax.random.key(0), tokens)['params']
    head, start = 768 * 50257 + 50257, 768
    assert sum(x.size for x in jax.tree.leaves(params)) - head - start == 124_439_808


def test_a_code_changes_no_logits_up_to_its_own(params):
    before = np.asarray(logits_of(params, CODES, LABEL))
    assert before.shape == (3, T, K)
    for j in range(T):
        after = np.asarray(logits_of(params, CODES.at[:, j].set((CODES[:, j] + 1) % K), LABEL))
        np.testing.assert_array_equal(after[:, : j + 1], before[:, : j + 1])
        assert np.all(np.any(after[:, j + 1 :] != before[:, j + 1 :], -1))


def test_the_label_reaches_every_position(params):
    other = logits_of(params, CODES, jnp.roll(LABEL, 1, -1))
    assert np.all(np.any(np.abs(np.asarray(other - logits_of(params, CODES, LABEL))) > 1e-4, -1))


def test_positions_are_those_of_rows_and_columns(params):
    table = MODEL.apply({'params': params}, method='_positions')
    rows, columns = params['axis0'], params['axis1']
    expected = [np.asarray(rows[i] + columns[j]) for i in range(SHAPE[0]) for j in range(SHAPE[1])]
    np.testing.assert_allclose(table, expected, rtol=1e-6)


def test_a_block_is_what_flax_layers_make_of_its_weights():
    x = jnp.asarray(np.float32(DRAW.normal(size=(2, T, C))))
    block = Block(heads=2, dropout=0.0, branches=4)
    params = louder(block.init(jax.random.key(1), x)['params'], 5)

    qkv = lambda part: params['qkv'][part].reshape(*params['qkv'][part].shape[:-1], 3, 2, C // 2)
    weights = {
        name: {'kernel': qkv('kernel')[:, i], 'bias': qkv('bias')[i]}
        for i, name in enumerate(('query', 'key', 'value'))
    }
    weights['out'] = {'kernel': params['out']['kernel'].reshape(2, C // 2, C), 'bias': params['out']['bias']}
    norm = lambda name, y: nn.LayerNorm().apply({'params': params[name]}, y)
    dense = lambda name, y: y @ params[name]['kernel'] + params[name]['bias']
    attention = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=C)
    mask = nn.make_causal_mask(jnp.ones((2, T)))
    expected = x + attention.apply({'params': weights}, norm('attention_norm', x), mask=mask)
    expected = expected + dense('down', nn.gelu(dense('up', norm('mlp_norm', expected))))
    np.testing.assert_allclose(block.apply({'params': params}, x)[0], expected, atol=1e-5)


def test_one_position_at_a_time_equals_all_at_once(params):
    decode = jax.jit(lambda *args: MODEL.apply({'params': params}, *args, method='decode'))
    # Whatever the caches hold of positions to come must not matter.
    caches = jax.tree.map(lambda x: x + 7.0, MODEL.caches(3))
    before, rows = jnp.zeros(3, jnp.int32), []
    for j in range(T):
        row, caches = decode(before, jnp.asarray(j), caches, LABEL)
        rows.append(row)
        before = CODES[:, j]
    np.testing.assert_allclose(np.stack(rows, 1), logits_of(params, CODES, LABEL), atol=1e-4)


@jax.jit
def drawn(params, keys, label, temperature):
    return generate(MODEL, params, keys, label, temperature)


def test_at_temperature_0_each_code_is_the_likeliest(params):
    codes = drawn(params, keys(1, 2, 3), LABEL, jnp.zeros(3))
    np.testing.assert_array_equal(codes, np.argmax(logits_of(params, codes, LABEL), -1))


def test_a_sequence_depends_on_its_own_key_label_and_temperature(params):
    params = params | {'label': louder(params['label'], 20), 'head': louder(params['head'], 8)}
    first = drawn(params, keys(1, 2, 3), LABEL, jnp.ones(3))
    assert first.dtype == jnp.int32 and first.shape == (3, T)
    for others in (
        (keys(9, 2, 8), LABEL, jnp.ones(3)),
        (keys(1, 2, 3), LABEL[jnp.asarray([1, 1, 0])], jnp.ones(3)),
        (keys(1, 2, 3), LABEL, jnp.asarray([9.0, 1.0, 9.0])),
    ):
        other = drawn(params, *others)
        np.testing.assert_array_equal(first[1], other[1])
        assert np.all(np.any(first[::2] != other[::2], -1))


@pytest.mark.parametrize('temperature', [1.0, 0.5])
def test_codes_are_drawn_from_the_distribution_of_the_logits(params, temperature):
    """Both marginals and transitions of the first two codes, within five standard errors."""
    count = 4000
    label = jnp.broadcast_to(LABEL[0], (count, LABELS))
    codes = np.asarray(drawn(params, keys(*range(count)), label, jnp.full(count, temperature)))
    row = logits_of(params, jnp.tile(jnp.arange(K, dtype=jnp.int32)[:, None], (1, T)), LABEL[:1].repeat(K, 0))
    chance = np.asarray(jax.nn.softmax(row / temperature), np.float64)
    first = chance[0, 0]
    pairs = first[:, None] * chance[:, 1]  # p(a) p(b | a)
    seen = np.zeros((K, K))
    np.add.at(seen, (codes[:, 0], codes[:, 1]), 1 / count)
    assert np.ptp(first) > 0.02
    for expected, found in ((first, seen.sum(1)), (pairs, seen)):
        assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / count) + 1e-3)


def test_dropout_takes_each_samples_own_key(params):
    model = MODEL.clone(dropout=0.3)
    apply = jax.jit(lambda keys: model.apply({'params': params}, CODES, LABEL, keys))
    a, b = np.asarray(apply(keys(1, 2, 3))), np.asarray(apply(keys(1, 5, 3)))
    np.testing.assert_array_equal(a[[0, 2]], b[[0, 2]])
    assert not np.allclose(a[1], b[1])
    plain = model.apply({'params': params}, CODES, LABEL)
    np.testing.assert_array_equal(plain, MODEL.apply({'params': params}, CODES, LABEL))
