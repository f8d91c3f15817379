"""Transformer against Flax's attention and parameter counts by hand; decoding against a full pass."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from productgen.nets.transformer import Block, Transformer, generate

K, SHAPE, C, LAYERS, LABELS = 11, (2, 3), 8, 2, 5
T = SHAPE[0] * SHAPE[1]
MODEL = Transformer(K, SHAPE, C, LAYERS, heads=2)
DRAW = np.random.default_rng(0)
CODES = DRAW.integers(0, K, (3, T), np.int32)
LABEL = np.eye(LABELS, dtype=np.float32)[[0, 3, 3]]


def start(net, *args, scale=0.2):
    """Random parameters, with larger weights than initially, where every distribution is nearly uniform."""
    params = jax.eval_shape(net.init, jax.random.key(0), *args)['params']

    def one(path, x):
        return np.float32((scale if x.ndim > 1 else 0.1) * DRAW.normal(size=x.shape) + (path[-1].key == 'scale'))

    return jax.tree_util.tree_map_with_path(one, params)


def scale_up(params, scale=10.0):
    """Scales up weights."""
    return jax.tree.map(lambda x: x * scale if x.ndim > 1 else x, params)


@pytest.fixture(scope='module')
def params():
    return start(MODEL, CODES, LABEL)


@jax.jit
def logits_of(params, codes, label):
    return MODEL.apply({'params': params}, codes, label)


def keys(*seeds):
    return jax.vmap(jax.random.key)(np.array(seeds))


def test_parameter_count(params):
    norm = 2 * C
    block = 2 * norm + (C * 3 * C + 3 * C) + (C * C + C) + (C * 4 * C + 4 * C) + (4 * C * C + C)
    expected = K * C + C + LABELS * C + sum(SHAPE) * C + LAYERS * block + norm + (C * K + K)
    assert sum(x.size for x in jax.tree.leaves(params)) == expected


def test_parameter_count_of_gpt2():
    """124,439,808 in the smallest model of Radford et al., which shares input and output embeddings."""
    gpt = Transformer(50257, (1024,), 768, 12, 12)
    tokens = jax.ShapeDtypeStruct((1, 1024), jnp.int32)
    params = jax.eval_shape(gpt.init, jax.random.key(0), tokens)['params']
    head, start = 768 * 50257 + 50257, 768
    assert sum(x.size for x in jax.tree.leaves(params)) - head - start == 124_439_808


def test_logits_depend_on_previous_codes_only(params):
    before = np.asarray(logits_of(params, CODES, LABEL))
    assert before.shape == (3, T, K)
    for j in range(T):
        changed = CODES.copy()
        changed[:, j] = (CODES[:, j] + 1) % K
        after = np.asarray(logits_of(params, changed, LABEL))
        np.testing.assert_array_equal(after[:, : j + 1], before[:, : j + 1])
        assert np.all(np.any(after[:, j + 1 :] != before[:, j + 1 :], -1))


def test_the_label_affects_every_position(params):
    other = logits_of(params, CODES, np.roll(LABEL, 1, -1))
    assert np.all(np.any(np.abs(np.asarray(other - logits_of(params, CODES, LABEL))) > 1e-4, -1))


def test_positions_are_sums_over_rows_and_columns(params):
    table = jax.jit(lambda params: MODEL.apply({'params': params}, method='_positions'))(params)
    rows, columns = params['axis0'], params['axis1']
    expected = [np.asarray(rows[i] + columns[j]) for i in range(SHAPE[0]) for j in range(SHAPE[1])]
    np.testing.assert_allclose(table, expected, rtol=1e-6)


def test_block_matches_flax():
    x = np.float32(DRAW.normal(size=(2, T, C)))
    block = Block(heads=2, dropout=0.0, branches=4)
    params = start(block, x, scale=0.1)

    qkv = lambda part: params['qkv'][part].reshape(*params['qkv'][part].shape[:-1], 3, 2, C // 2)
    weights = {
        name: {'kernel': qkv('kernel')[:, i], 'bias': qkv('bias')[i]}
        for i, name in enumerate(('query', 'key', 'value'))
    }
    weights['out'] = {'kernel': params['out']['kernel'].reshape(2, C // 2, C), 'bias': params['out']['bias']}
    norm = lambda name, y: nn.LayerNorm().apply({'params': params[name]}, y)
    dense = lambda name, y: y @ params[name]['kernel'] + params[name]['bias']

    @jax.jit
    def both(x):
        attention = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=C)
        mask = nn.make_causal_mask(jnp.ones((2, T)))
        expected = x + attention.apply({'params': weights}, norm('attention_norm', x), mask=mask)
        expected = expected + dense('down', nn.gelu(dense('up', norm('mlp_norm', expected))))
        return block.apply({'params': params}, x)[0], expected

    found, expected = both(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_decoding_matches_a_full_pass(params):
    decode = jax.jit(lambda *args: MODEL.apply({'params': params}, *args, method='decode'))
    # The content of the caches at later positions must not matter.
    caches = jax.tree.map(lambda x: np.asarray(x) + np.float32(7), MODEL.caches(3))
    before, rows = np.zeros(3, np.int32), []
    for j in range(T):
        row, caches = decode(before, np.int32(j), caches, LABEL)
        rows.append(row)
        before = CODES[:, j]
    np.testing.assert_allclose(np.stack(rows, 1), logits_of(params, CODES, LABEL), atol=1e-4)


@jax.jit
def sample(params, keys, label, temperature):
    return generate(MODEL, params, keys, label, temperature)


def test_temperature_zero_is_greedy(params):
    codes = sample(params, keys(1, 2, 3), LABEL, np.zeros(3, np.float32))
    np.testing.assert_array_equal(codes, np.argmax(logits_of(params, codes, LABEL), -1))


def test_sequences_depend_on_their_own_key_label_and_temperature(params):
    params = params | {'label': scale_up(params['label'], 20), 'head': scale_up(params['head'], 8)}
    first = sample(params, keys(1, 2, 3), LABEL, np.ones(3, np.float32))
    assert first.dtype == jnp.int32 and first.shape == (3, T)
    for others in (
        (keys(9, 2, 8), LABEL, np.ones(3, np.float32)),
        (keys(1, 2, 3), LABEL[[1, 1, 0]], np.ones(3, np.float32)),
        (keys(1, 2, 3), LABEL, np.float32([9, 1, 9])),
    ):
        other = sample(params, *others)
        np.testing.assert_array_equal(first[1], other[1])
        assert np.all(np.any(first[::2] != other[::2], -1))


@pytest.mark.parametrize('temperature', [1.0, 0.5])
def test_codes_follow_the_distribution_of_the_logits(params, temperature):
    """Marginals of the first code and joint frequencies of the first two, within five standard errors."""
    count = 4000
    label = np.broadcast_to(LABEL[0], (count, LABELS))
    codes = np.asarray(sample(params, keys(*range(count)), label, np.full(count, temperature, np.float32)))
    row = logits_of(params, np.tile(np.arange(K, dtype=np.int32)[:, None], (1, T)), np.repeat(LABEL[:1], K, 0))
    probability = scipy.special.softmax(np.float64(row) / temperature, -1)
    first = probability[0, 0]
    pairs = first[:, None] * probability[:, 1]  # p(a) p(b | a)
    observed = np.zeros((K, K))
    np.add.at(observed, (codes[:, 0], codes[:, 1]), 1 / count)
    assert np.ptp(first) > 0.02
    for expected, found in ((first, observed.sum(1)), (pairs, observed)):
        assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / count) + 1e-3)


def test_dropout_uses_the_keys_of_samples(params):
    model = MODEL.clone(dropout=0.3)
    apply = jax.jit(lambda keys: model.apply({'params': params}, CODES, LABEL, keys))
    a, b = np.asarray(apply(keys(1, 2, 3))), np.asarray(apply(keys(1, 5, 3)))
    np.testing.assert_array_equal(a[[0, 2]], b[[0, 2]])
    assert not np.allclose(a[1], b[1])
    plain = jax.jit(model.apply)({'params': params}, CODES, LABEL)
    np.testing.assert_array_equal(plain, logits_of(params, CODES, LABEL))
