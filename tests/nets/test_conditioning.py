"""Label conditioning and discriminator outputs against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.nets.conditioning import Embed, Head, join, split_classes

DRAW = np.random.default_rng(0)
X = np.float32(DRAW.normal(size=(4, 6)))
# Two attributes, of two and three values; unknown are the first one in the third row and both in the last.
LABEL = np.float32([[1, 0, 0, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])
ROWS = [[0, 3], [1, 2], [4], []]


def start(head, label=LABEL):
    """Variables with all parameters random, including biases."""
    variables = jax.eval_shape(lambda: head.init(jax.random.key(0), X, label, True))
    random = lambda p: np.float32(DRAW.normal(size=p.shape))
    return variables | {'params': jax.tree.map(random, variables['params'])}


def logits(variables, name):
    return X @ variables['params'][name]['kernel'] + variables['params'][name]['bias']


def test_classes_are_split_by_attribute():
    first, second = split_classes(jnp.asarray(LABEL), (2, 3))
    np.testing.assert_array_equal(first, LABEL[:, :2])
    np.testing.assert_array_equal(second, LABEL[:, 2:])


@pytest.mark.parametrize('weight', [1.0, 0.5, 0.0])
def test_embedding_sums_the_rows_of_known_values(weight):
    net = Embed(3, scale=2.0)
    variables = net.init(jax.random.key(0), LABEL)
    kernel = np.asarray(variables['params']['kernel'])
    expected = [weight * kernel[pick].sum(0) for pick in ROWS]
    np.testing.assert_allclose(net.apply(variables, LABEL, weight), expected, atol=1e-5)
    wide = Embed(4000, scale=2.0).init(jax.random.key(0), LABEL)['params']['kernel']
    assert np.std(wide) == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize('shape', [(2, 3), (2, 4, 5, 3)])
def test_join_appends_the_vector_at_every_position(shape):
    x, vector = DRAW.normal(size=shape), DRAW.normal(size=(2, 2))
    out = np.asarray(join(x, vector))
    assert out.shape == (*shape[:-1], 5)
    np.testing.assert_array_equal(out[..., :3], np.float32(x))
    for row, value in zip(out[..., 3:], np.float32(vector), strict=True):
        np.testing.assert_array_equal(row.reshape(-1, 2), np.broadcast_to(value, (row.size // 2, 2)))


def test_projection_adds_the_inner_product_with_the_embedding():
    head = Head('projection', (2, 3))
    variables = start(head)
    kernel = variables['params']['label']['kernel']
    expected = [logits(variables, 'logit')[i, 0] + kernel[pick].sum(0) @ X[i] for i, pick in enumerate(ROWS)]
    output = jax.jit(head.apply, static_argnums=3)(variables, X, LABEL, True)
    np.testing.assert_allclose(output.logit, expected, atol=1e-5)
    assert output.plain is None and output.classes == ()


def test_plain_head_ignores_the_label():
    head = Head('projection', (2, 3), plain_head=True)
    variables = start(head)
    for label in (LABEL, LABEL[::-1]):
        np.testing.assert_allclose(
            head.apply(variables, X, label).plain, logits(variables, 'plain')[:, 0], rtol=1e-5, atol=1e-5
        )
    assert not np.allclose(head.apply(variables, X, LABEL).plain, head.apply(variables, X, np.zeros_like(LABEL)).logit)


def test_classes_head_predicts_the_label_and_its_logit_ignores_it():
    head = Head('classes', (2, 3), plain_head=True)
    variables = start(head)
    output, other = head.apply(variables, X, LABEL), head.apply(variables, X, LABEL[::-1])
    expected = logits(variables, 'classes')
    np.testing.assert_allclose(output.classes[0], expected[:, :2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output.classes[1], expected[:, 2:], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output.logit, logits(variables, 'logit')[:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(output.logit, other.logit)
    assert output.plain is None


@pytest.mark.parametrize('condition, label', [('projection', None), ('classes', None), ('none', LABEL)])
def test_head_without_a_label_has_a_single_logit(condition, label):
    head = Head(condition, (2, 3))
    variables = start(head, label)
    assert variables['params'].keys() == {'logit'}
    np.testing.assert_allclose(head.apply(variables, X, label).logit, logits(variables, 'logit')[:, 0], atol=1e-5)


@pytest.mark.parametrize('condition', ['projection', 'classes'])
def test_spectral_normalises_every_matrix(condition):
    head = Head(condition, (2, 3), plain_head=True, spectral=True)
    variables = jax.jit(head.init, static_argnums=3)(jax.random.key(0), X, LABEL, True)
    assert jax.tree.structure(variables['stats']) == jax.tree.structure({k: {'u': 0} for k in variables['params']})
    larger = variables | {'params': jax.tree.map(lambda p: 9 * np.asarray(p), variables['params'])}
    apply = jax.jit(head.apply)
    # Biases are zero, so the outputs do not depend on the scale of the weights.
    for a, b in zip(*(jax.tree.leaves(apply(v, X, LABEL)) for v in (variables, larger)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
