"""StyleGAN2's networks against the papers' definitions and published parameter counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from productgen.core.sizes import levels
from productgen.nets.layers import EqualDense, leaky_relu, minibatch_stddev, one_hot_labels
from productgen.nets.stylegan2 import (
    Discriminator,
    DownLayer,
    Generator,
    Mapping,
    ModulatedConv,
    Synthesis,
    Widths,
)


def init(net, *args):
    return jax.jit(net.init)(jax.random.key(0), *args)['params']


def start(net, *args):
    """As `init`, with weights from NumPy, which needs no compilation."""
    numbers = np.random.default_rng(0)

    def one(path, x):
        if x.ndim > 1:
            return numbers.normal(size=x.shape).astype(np.float32)
        return np.full(x.shape, path[-2].key == 'style', np.float32)  # other biases and noise strengths are zero

    params = jax.eval_shape(net.init, jax.random.key(0), *args)['params']
    return jax.tree_util.tree_map_with_path(one, params)


def apply(net, params, *args, **options):
    return jax.jit(lambda params, args: net.apply({'params': params}, *args, **options))(params, args)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def keys_of(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


# Parameter counts and shapes.


@pytest.mark.parametrize(
    'size, channel_base, generator, discriminator',
    [(1024, 32768, 30_370_060, 29_012_513), (256, 16384, 24_767_458, 24_001_089)],
)
def test_parameter_counts_are_the_published_ones(size, channel_base, generator, discriminator):
    base, doublings = levels((size, size))
    widths = Widths(channel_base, 512, doublings, 4)
    g, d = Generator(base, widths, 512, 8), Discriminator(widths, 4, 8)
    count = lambda net, *args: sum(
        x.size for x in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0), *args)['params'])
    )
    assert count(g, jnp.zeros((1, 512)), None, keys_of(1)) == generator
    assert count(d, jnp.zeros((1, size, size, 3)), None) == discriminator


@pytest.mark.parametrize(
    'resolution, expected',
    [
        ((8, 8), ((4, 4), 1)),
        ((32, 32), ((4, 4), 3)),
        ((128, 96), ((4, 3), 5)),
        ((96, 224), ((3, 7), 5)),
        ((2048, 2048), ((4, 4), 9)),
    ],
)
def test_levels_splits_a_resolution_into_base_and_doublings(resolution, expected):
    assert levels(resolution) == expected


@pytest.mark.parametrize(
    'resolution, near',
    [
        ((100, 100), '96x96'),
        ((130, 98), '96x128'),
        ((33, 32), '32x32'),
        ((3000, 3000), '3072x3072'),
    ],
)
def test_levels_names_the_nearest_sizes_as_width_by_height(resolution, near):
    with pytest.raises(ValueError, match=rf'data\.resolution: {resolution[1]}x{resolution[0]} .*are:.* {near}\b'):
        levels(resolution)


@pytest.mark.parametrize('resolution', [(16, 16), (32, 24), (24, 56)])
def test_outputs_have_the_configured_resolution(resolution):
    base, doublings = levels(resolution)
    widths = Widths(64, 8, doublings, 0)
    g, d = Generator(base, widths, 4, 1), Discriminator(widths, 2, 1)
    image = jax.eval_shape(g.init_with_output, jax.random.key(0), jnp.zeros((2, 4)), None, keys_of(2))[0]
    assert (image.shape, image.dtype) == ((2, *resolution, 3), jnp.float32)
    logits = jax.eval_shape(d.init_with_output, jax.random.key(0), jnp.zeros(image.shape), None)[0].logit
    assert (logits.shape, logits.dtype) == ((2,), jnp.float32)


# Layers.


def test_leaky_relu_keeps_the_mean_square():
    x = draw(200_000)
    np.testing.assert_allclose(leaky_relu(x)[:9], np.where(x > 0, x, 0.2 * x)[:9] * 2**0.5, rtol=1e-6)
    assert np.mean(np.square(leaky_relu(x))) == pytest.approx(1.04, abs=0.02)


@pytest.mark.parametrize('lr_multiplier', [1.0, 0.01])
def test_dense_layers_start_at_unit_scale_for_any_lr_multiplier(lr_multiplier):
    dense, x = EqualDense(400, bias=3.0, lr_multiplier=lr_multiplier), draw(50, 300)
    params = init(dense, x)
    assert np.std(params['kernel']) == pytest.approx(1 / lr_multiplier, rel=0.02)
    out = np.asarray(apply(dense, params, x))
    assert out.mean() == pytest.approx(3, abs=0.1) and out.std() == pytest.approx(1, rel=0.05)


def test_the_effect_of_a_weight_update_is_proportional_to_lr_multiplier():
    x = draw(5, 16)
    for lr in (1.0, 0.01):
        dense = EqualDense(3, lr_multiplier=lr)
        shapes = jax.eval_shape(dense.init, jax.random.key(0), x)['params']
        ones = jax.tree.map(lambda p: np.ones(p.shape, np.float32), shapes)
        moved = apply(dense, ones, x)
        expected = lr * (x.sum(1, keepdims=True) / np.sqrt(16) + 1)
        np.testing.assert_allclose(moved, np.broadcast_to(expected, (5, 3)), rtol=1e-5)


@pytest.mark.parametrize('kernel', [1, 3])
def test_discriminator_convolutions_start_at_unit_scale(kernel):
    layer, x = DownLayer(64, kernel=kernel, activate=False), draw(2, 16, 16, 32)
    out = np.asarray(apply(layer, init(layer, x), x))[:, 1:-1, 1:-1]
    assert out.std() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize('batch, group, channels', [(6, 3, 1), (6, 2, 2), (4, 8, 4), (3, 1, 1)])
def test_minibatch_stddev_groups_consecutive_samples(batch, group, channels):
    x = draw(batch, 3, 2, 4)
    expected = np.zeros((batch, channels))
    for start in range(0, batch, group):
        part = x[start : start + group].astype(np.float64)
        for c in range(channels):
            width = 4 // channels
            std = np.std(part[..., c * width : (c + 1) * width], axis=0)
            expected[start : start + group, c] = std.mean()
    out = jax.jit(minibatch_stddev, static_argnums=(1, 2))(x, group, channels)
    np.testing.assert_array_equal(out[..., :4], x)
    np.testing.assert_allclose(out[..., 4:], np.broadcast_to(expected[:, None, None], out[..., 4:].shape), atol=2e-4)


def test_one_hot_labels_concatenates_attributes_with_zeros_for_unknown_values():
    label = np.array([[0, 1], [2, -1], [-1, -1]], np.int32)
    expected = [[1, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(one_hot_labels(label, (3, 2)), expected)


# Mapping network.


def test_mapping_normalises_latents_and_embeddings_to_mean_square_one():
    mapping, z, label = Mapping(4, 0, 6), 5 * draw(3, 8), np.eye(3, 5, dtype=np.float32)
    params = start(mapping, z, label)
    out = np.asarray(apply(mapping, params, z, label))  # without layers it returns its input
    np.testing.assert_allclose(out[:, :8], z / np.sqrt(np.mean(z**2, 1, keepdims=True)), rtol=1e-5)
    embedded = np.asarray(params['embed']['kernel'])[:3]
    np.testing.assert_allclose(out[:, 8:], embedded / np.sqrt(np.mean(embedded**2, 1, keepdims=True)), rtol=1e-5)


def test_mapping_depends_on_the_label_and_not_on_the_length_of_z():
    mapping, z = Mapping(16, 2, 16), np.repeat(draw(1, 8), 4, 0)
    label = one_hot_labels(np.array([[0, 0], [1, 0], [0, 1], [-1, -1]]), (2, 2))
    params = init(mapping, z, label)
    w = np.asarray(apply(mapping, params, z, label))
    assert np.isfinite(w).all()
    assert min(np.abs(w[i] - w[j]).max() for i in range(4) for j in range(i)) > 0.05
    np.testing.assert_allclose(apply(mapping, params, 7 * z, label), w, rtol=1e-4, atol=1e-5)


def test_mapping_lr_applies_to_every_layer_but_not_to_the_embedding():
    g = Generator((4, 4), Widths(32, 8, 1, 0), 256, 2, 0.1)
    args = jax.random.key(0), draw(1, 256), np.ones((1, 20), np.float32), keys_of(1)
    params = jax.jit(lambda *args: g.init(*args)['params']['mapping'])(*args)
    scale = {name: float(np.std(layer['kernel'])) for name, layer in params.items()}
    assert scale == pytest.approx({'dense0': 10, 'dense1': 10, 'embed': 1}, rel=0.1)


# Modulated convolution.


def correlate(x, kernel, mode):
    """[H, W, C] and [h, w, C, D] -> [H', W', D] in float64."""
    return np.stack(
        [
            sum(scipy.signal.correlate2d(x[..., c], kernel[..., c, d], mode) for c in range(x.shape[-1]))
            for d in range(kernel.shape[-1])
        ],
        -1,
    )


def transposed_then_filtered(x, kernel):
    wide = np.zeros((2 * x.shape[0] - 1, 2 * x.shape[1] - 1, x.shape[2]))
    wide[::2, ::2] = x
    wide = correlate(wide, kernel, 'full')
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16
    blurred = [scipy.signal.convolve2d(wide[..., d], taps) for d in range(wide.shape[-1])]
    return np.stack(blurred, -1)[2:-2, 2:-2]


@pytest.mark.parametrize('kernel, up, demodulate', [(3, False, True), (3, True, True), (1, False, False)])
def test_modulated_convolution_matches_modulated_weights_of_each_sample(kernel, up, demodulate):
    """Equations 1 and 3 of the StyleGAN2 paper."""
    layer, x, w = ModulatedConv(3, kernel, up, demodulate), draw(2, 5, 4, 6), draw(2, 8, seed=1)
    params = start(layer, x, w)
    params['style']['bias'] = 1 + 0.5 * draw(6, seed=2)
    out = apply(layer, params, x, w)
    weights = np.asarray(params['kernel'], np.float64) / np.sqrt(kernel**2 * 6)
    styles = w.astype(float) @ np.asarray(params['style']['kernel']) / np.sqrt(8) + params['style']['bias']
    for i in range(2):
        own = weights * np.asarray(styles)[i][:, None]  # [h, w, C, D]
        if demodulate:
            own = own / np.sqrt((own**2).sum((0, 1, 2)) + 1e-8)
        sample = x[i].astype(np.float64)
        expected = transposed_then_filtered(sample, own) if up else correlate(sample, own, 'same')
        np.testing.assert_allclose(out[i], expected, rtol=1e-4, atol=1e-5)


# Generator.


@pytest.fixture(scope='module')
def tiny():
    """A synthesis network of 16 x 12 pixels with non-zero noise strength, and latents of three samples."""
    synthesis = Synthesis((4, 3), Widths(256, 16, 2, 0))
    ws = draw(3, synthesis.widths.num_latents, 8)
    params = start(synthesis, ws, keys_of(3))
    for name in ('conv0_1', 'conv1_0', 'conv1_1', 'conv2_0', 'conv2_1'):
        params[name]['noise_strength'] = jnp.float32(0.5)
    return synthesis, params, ws, jax.jit(lambda p, ws, keys: synthesis.apply({'params': p}, ws, keys))


def test_noise_of_strength_zero_has_no_effect(tiny):
    _, params, ws, run = tiny
    still = {name: p | {'noise_strength': jnp.float32(0)} for name, p in params.items() if name.startswith('conv')}
    np.testing.assert_array_equal(*(run(params | still, ws, keys_of(3, seed)) for seed in (0, 1)))
    assert np.abs(run(params, ws, keys_of(3, 0)) - run(params, ws, keys_of(3, 1))).max() > 0.1


def test_noise_of_a_sample_depends_only_on_its_key(tiny):
    _, params, ws, run = tiny
    keys, other, order = keys_of(3), keys_of(3, 1), np.array([2, 0, 1])
    image = run(params, ws, keys)
    np.testing.assert_allclose(run(params, ws[order], keys[order]), image[order], atol=1e-5)
    np.testing.assert_allclose(run(params, ws, jnp.stack([other[0], keys[1], other[2]]))[1], image[1], atol=1e-5)


def test_layers_have_independent_noise(tiny):
    """With strength 1000 the sign of the activations is that of the noise, which must differ between layers."""
    synthesis, params, ws, _ = tiny
    params = params | {
        name: p | {'noise_strength': jnp.float32(1000)} for name, p in params.items() if name.startswith('conv')
    }
    _, captured = apply(synthesis, params, ws, keys_of(3), capture_intermediates=True)
    first, second = (np.asarray(captured['intermediates'][f'conv2_{i}']['__call__'][0])[..., 0].ravel() for i in (0, 1))
    assert abs(np.corrcoef(np.sign(first), np.sign(second))[0, 1]) < 0.2


def test_every_latent_has_an_effect(tiny):
    synthesis, params, ws, run = tiny
    image = run(params, ws, keys_of(3))
    for layer in range(synthesis.widths.num_latents):
        moved = ws.copy()
        moved[:, layer] += 1
        assert np.abs(run(params, moved, keys_of(3)) - image).max() > 1e-3, layer


def test_activations_keep_their_scale():
    """Up to the attenuation of white noise by the upsampling filter at each level."""
    synthesis = Synthesis((4, 4), Widths(10**6, 64, 2, 0))
    ws = np.repeat(draw(8, 1, 32), synthesis.widths.num_latents, 1)
    params = init(synthesis, ws, keys_of(8))
    _, captured = apply(synthesis, params, ws, keys_of(8), capture_intermediates=True)
    for level in range(3):
        (x,) = captured['intermediates'][f'conv{level}_1']['__call__']
        inside = np.asarray(x)[:, level : -level or None, level : -level or None]
        assert 0.6 * 0.6**level < np.mean(np.square(inside)) < 1.5, level


# Lower precision.


@pytest.fixture(scope='module')
def mixed():
    """Outputs and intermediates of generator and discriminator, in float32 and with two bfloat16 levels."""
    image, ws, results = draw(4, 16, 12, 3), draw(4, 6, 8), []
    for low in (0, 2):
        widths = Widths(256, 16, 2, low)
        g, d = Synthesis((4, 3), widths), Discriminator(widths, 2, 1)
        g_params, d_params = start(g, ws, keys_of(4)), start(d, image, None)
        g_params['conv2_1']['bias'][0] = 1e4
        results.append(apply(g, g_params, ws, keys_of(4), capture_intermediates=True))
        output, captured = apply(d, d_params, image, None, capture_intermediates=True)
        results.append((output.logit, captured))
    return results


def test_the_finest_levels_compute_in_bfloat16(mixed):
    for _, captured in mixed[:2]:
        assert {x.dtype for x in jax.tree.leaves(captured)} == {np.dtype('float32')}
    dtypes = lambda captured: {
        n: str(v['__call__'][0].dtype) for n, v in captured['intermediates'].items() if n != '__call__'
    }
    expected = {f'conv{level}_{i}': 'bfloat16' for level in (1, 2) for i in (0, 1)}
    generator = {n: dtype for n, dtype in dtypes(mixed[2][1]).items() if n.startswith('conv')}
    assert generator == expected | {'conv0_1': 'float32'}
    discriminator = {n: dtype for n, dtype in dtypes(mixed[3][1]).items() if dtype == 'bfloat16'}
    assert discriminator == expected | {'from_rgb': 'bfloat16', 'skip2': 'bfloat16', 'skip1': 'bfloat16'}
    assert {out.dtype for out, _ in mixed} == {np.dtype('float32')}


def test_low_precision_is_clamped_and_high_is_not(mixed):
    largest = [float(np.max(captured['intermediates']['conv2_1']['__call__'][0])) for _, captured in mixed[::2]]
    assert largest[0] > 1e4 and largest[1] == 256


def test_low_precision_is_close_to_full_precision(mixed):
    full, low = (captured['intermediates'] for _, captured in mixed[::2])
    for name in ('conv2_0', 'rgb1'):  # before the layer whose bias the fixture sets to 1e4
        a, b = (np.asarray(x[name]['__call__'][0], np.float32) for x in (full, low))
        assert np.abs(a - b).max() < 0.05 * np.abs(a).max(), name
    np.testing.assert_allclose(mixed[3][0], mixed[1][0], atol=0.03 * np.abs(mixed[1][0]).max() + 0.03)


# Discriminator.


def test_logits_depend_on_the_label_and_the_own_group_only():
    d = Discriminator(Widths(64, 8, 1, 0), stddev_group=2, label_layers=1)
    image, label = draw(4, 8, 8, 3), np.eye(4, dtype=np.float32)
    params = init(d, image, label)
    run = jax.jit(lambda image, label: d.apply({'params': params}, image, label).logit)
    logits = run(image, label)
    assert np.abs(run(image, label[::-1]) - logits).min() > 1e-3
    other = image.copy()
    other[3] *= 2
    changed = np.abs(run(other, label) - logits)
    assert (changed[:2] < 1e-6).all() and (changed[2:] > 1e-5).all()


def test_stddev_group_zero_omits_the_layer():
    for group, channels in ((0, 8), (2, 9)):
        d = Discriminator(Widths(32, 8, 1, 0), group, 1)
        params = jax.eval_shape(d.init, jax.random.key(0), jnp.zeros((2, 8, 8, 3)), None)['params']
        assert params['conv0']['kernel'].shape == (3, 3, channels, 8)
