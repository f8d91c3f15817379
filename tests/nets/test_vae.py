"""Encoder, decoder and discriminator of VAEs: shapes, parameter counts and dependencies."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from productgen.core.rng import sample_keys
from productgen.nets.vae import LOG_VARIANCE, Decoder, Discriminator, Encoder, Residual, Resize

KEY = jax.random.key(0)
SMALL = dict(channels=8, channel_max=16, groups=4)
DRAW = np.random.default_rng(0)
LABEL = np.float32([[1, 0, 0], [0, 0, 1]])


def image(height=16, width=24, count=2):
    return np.float32(DRAW.uniform(-1, 1, (count, height, width, 3)))


def run(net, params, *inputs, **options):
    """Output of a network; jitted, which is faster than running operation by operation."""
    return jax.jit(lambda params, *inputs: net.apply({'params': params}, *inputs, **options))(params, *inputs)


def shapes_of(net, params, *inputs):
    return jax.eval_shape(net.apply, {'params': params}, *inputs)


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


def make(net, *inputs):
    """Random parameters, none of which is zero."""
    params = jax.eval_shape(net.init, KEY, *inputs)['params']

    def one(path, x):
        scale = np.prod(x.shape[:-1]) ** -0.5 if x.ndim > 1 else 0.1
        return np.float32(scale * DRAW.normal(size=x.shape) + (path[-1].key in ('scale', 'gain')))

    return jax.tree_util.tree_map_with_path(one, params)


def conv(kernel, inputs, outputs):
    return kernel * kernel * inputs * outputs + outputs


@pytest.mark.parametrize('label', [None, LABEL])
@pytest.mark.parametrize('levels', [2, 3])
def test_vector_latents_of_images_that_are_not_square(label, levels):
    encoder, base = Encoder(5, levels, True, **SMALL), (16 >> levels, 24 >> levels)
    decoder = Decoder(base, levels, **SMALL)
    params = make(encoder, image(), label)
    mean, log_variance = shapes_of(encoder, params, image(), label)
    assert mean.shape == log_variance.shape == (2, 5)
    # Convolutions 3 -> 8 -> 16 -> 16, a gain and bias per channel before each activation, then a dense layer.
    sizes = [8, 16, 16, 16][: levels + 1]
    expected = conv(3, 3, 8) + sum(conv(4, a, b) for a, b in zip(sizes, sizes[1:], strict=False)) + 2 * sum(sizes)
    expected += base[0] * base[1] * sizes[-1] * 10 + 10 + (0 if label is None else 3 * 8)
    assert count(params) == expected
    params = make(decoder, mean, label)
    assert shapes_of(decoder, params, mean, label).shape == (2, 16, 24, 3)
    flat = base[0] * base[1] * sizes[-1]
    expected = 5 * flat + flat + (0 if label is None else 3 * flat) + conv(3, 8, 3) + 2 * sum(sizes)
    assert count(params) == expected + sum(conv(4, b, a) for a, b in zip(sizes, sizes[1:], strict=False))


def test_map_latents_of_several_sizes():
    encoder, decoder = Encoder(4, 2, False, blocks=1, **SMALL), Decoder(None, 2, blocks=1, outputs=6, **SMALL)
    params = make(encoder, image(), LABEL)
    for size in ((16, 24), (8, 4)):
        mean, log_variance = shapes_of(encoder, params, image(*size), LABEL)
        assert mean.shape == log_variance.shape == (2, size[0] // 4, size[1] // 4, 4)
    weights = make(decoder, mean, LABEL)
    assert shapes_of(decoder, weights, mean, LABEL).shape == (2, 8, 4, 6)


@pytest.mark.parametrize('up', [False, True])
def test_resizing_layers_keep_the_variance(up):
    x = np.float32(DRAW.normal(size=(4, 16, 16, 32)))
    net = Resize(48, up)
    y, _ = jax.jit(net.init_with_output)(KEY, x)
    assert y.shape == (4, 32, 32, 48) if up else (4, 8, 8, 48)
    assert np.var(y[:, 2:-2, 2:-2]) == pytest.approx(1, rel=0.15)


def test_residual_blocks_start_as_the_identity():
    x = image(4, 4)
    y, _ = jax.jit(Residual(0, 0.0).init_with_output)(KEY, x, None)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize('groups', [0, 4])
def test_images_are_independent(groups):
    x, sizes = image(8, 8), SMALL | {'groups': groups}
    encoder, decoder = Encoder(5, 1, True, blocks=1, **sizes), Decoder((4, 4), 1, blocks=1, **sizes)
    discriminator = Discriminator(1, 1, **sizes)
    for net, value in ((encoder, x), (decoder, image(1, 1).reshape(2, 3)), (discriminator, x)):
        apply = jax.jit(net.apply)
        params = {'params': make(net, value, LABEL)}
        both = apply(params, value, LABEL)
        other = apply(params, np.stack([value[0], 3 + value[1]]), LABEL[[0, 0]])
        for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a[0], b[0])
            assert np.any(a[1] != b[1])


def test_labels_affect_every_output():
    x = image(8, 8)
    for net, value in (
        (Encoder(5, 1, True, **SMALL), x),
        (Decoder((4, 4), 1, **SMALL), x[:, 0, 0]),
        (Decoder(None, 1, **SMALL), x),
        (Discriminator(1, 1, **SMALL), x),
    ):
        apply, params = jax.jit(net.apply), {'params': make(net, value, LABEL)}
        a, b, unknown = (jax.tree.leaves(apply(params, value, x))[0] for x in (LABEL, LABEL[::-1], 0 * LABEL))
        assert np.all(np.any(np.reshape(a != b, (2, -1)), 1)), net
        assert np.all(np.any(np.reshape(a != unknown, (2, -1)), 1)), net


def test_log_variances_are_bounded():
    encoder = Encoder(5, 1, True, channels=8, channel_max=8, groups=0)
    params = make(encoder, image(8, 8), None)
    _, log_variance = run(encoder, params, 1e5 * image(8, 8), None)
    assert np.min(log_variance) == LOG_VARIANCE[0] and np.max(log_variance) == LOG_VARIANCE[1]


def test_dropout_uses_the_keys_of_samples_and_only_in_training():
    keys, x = sample_keys(KEY, jnp.arange(2)), np.repeat(image(8, 8, 1), 2, 0)
    for net, value in (
        (Encoder(5, 1, True, blocks=1, dropout=0.5, **SMALL), x),
        (Decoder((4, 4), 1, blocks=1, dropout=0.5, **SMALL), x[:, 0, 0]),
    ):
        params = make(net, value, None)
        call = lambda params, value, keys, train, net=net: net.apply({'params': params}, value, None, keys, train=train)
        apply = jax.jit(call, static_argnums=3)
        first = lambda keys, train, apply=apply, params=params, value=value: np.asarray(
            jax.tree.leaves(apply(params, value, keys, train))[0]
        )
        kept, dropped = first(keys, False), first(keys, True)
        np.testing.assert_array_equal(kept, first(None, True))
        # Some processors round a row of a matrix product by its place.
        np.testing.assert_allclose(kept[0], kept[1], rtol=1e-5, atol=1e-6)
        assert np.any(dropped[0] != dropped[1]) and np.any(dropped != kept)
        np.testing.assert_allclose(dropped[::-1], first(keys[::-1], True), rtol=1e-5, atol=1e-6)


def test_features_are_the_normalised_ones_of_the_similarity_level():
    x = image()
    for similarity, shape in ((1, (2, 8, 12, 16)), (2, (2, 4, 6, 16))):
        net = Discriminator(2, similarity, **SMALL)
        (logit, features), _ = jax.jit(net.init_with_output)(KEY, x, None)
        assert logit.shape == (2,) and features.shape == shape
        groups = np.reshape(features, (2, -1, 4, 4)).transpose(0, 2, 1, 3).reshape(8, -1)
        np.testing.assert_allclose(groups.mean(1), 0, atol=1e-4)
        np.testing.assert_allclose(groups.std(1), 1, atol=1e-2)


def test_encoder_and_decoder_can_overfit_two_images():
    x = image(8, 8)
    nets = Encoder(2, 1, True, **SMALL), Decoder((4, 4), 1, **SMALL)
    params = [make(nets[0], x, None), make(nets[1], x[:, 0, 0, :2], None)]
    tx = optax.adam(0.01)

    def loss(params):
        mean, _ = nets[0].apply({'params': params[0]}, x, None)
        return jnp.mean(jnp.square(nets[1].apply({'params': params[1]}, mean, None) - x))

    @jax.jit
    def step(params, opt):
        value, grads = jax.value_and_grad(loss)(params)
        with jax.numpy_dtype_promotion('standard'):
            updates, opt = tx.update(grads, opt)
        return optax.apply_updates(params, updates), opt, value

    opt = jax.jit(tx.init)(params)
    for _ in range(150):
        params, opt, value = step(params, opt)
    assert value < 0.02 * np.var(x)
