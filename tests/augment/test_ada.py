"""ADA compared with NumPy, SciPy and the published distributions; colours and maps are measured on tiny images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import scipy.stats
from scipy.spatial.transform import Rotation

from productgen.augment import AdaConfig, AugmentConfig, ada, adapt_p, make_augment
from productgen.augment.ada import (
    P_MAX,
    PRESETS,
    SYM2,
    TRANSFORMS,
    _inverse_affine,
    _octave_filters,
    _octave_gains,
    filter_octaves,
    only,
)
from productgen.augment.warp import SYM6
from productgen.config import UserError

ALWAYS = 1.0  # beyond P_MAX, where the controller stops
LUMA = np.ones(3) / np.sqrt(3)
run = jax.jit(ada, static_argnums=3)


def keys_of(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def smooth_images(b, h, w, c=3, cycles=2, seed=0):
    """Random sums of cosines that are smooth and, mirrored at the borders, stay smooth."""
    y, x = (np.pi * np.arange(n) / (n - 1) for n in (h, w))
    spectrum = np.random.default_rng(seed).normal(size=(b, cycles + 1, cycles + 1, c))
    rows, columns = (np.cos(np.arange(cycles + 1)[:, None] * v) for v in (y, x))
    return np.einsum('bijc,ih,jw->bhwc', spectrum, rows, columns).astype(np.float32) / (cycles + 1)


@pytest.mark.parametrize('taps, moments', [(SYM2, 2), (SYM6, 6)])
def test_wavelets_are_orthonormal_with_vanishing_moments(taps, moments):
    n = len(taps)
    np.testing.assert_allclose(np.correlate(taps, taps, 'full')[n - 1 :: 2], np.eye(1, n // 2)[0], atol=1e-9)
    np.testing.assert_allclose(taps.sum(), np.sqrt(2), atol=1e-9)
    high = taps * (-1) ** np.arange(n)
    for k in range(moments):
        assert abs(np.sum(high * (np.arange(n) / n) ** k)) < 1e-9


def test_wavelets_are_those_of_pywavelets():
    pywt = pytest.importorskip('pywt')
    np.testing.assert_allclose(SYM6, pywt.Wavelet('sym6').dec_lo, atol=1e-12)
    np.testing.assert_allclose(SYM2, pywt.Wavelet('sym2').dec_lo, atol=1e-12)


@pytest.mark.parametrize('size', [(8, 8), (8, 12)])
def test_blitting_only_moves_pixels(size):
    images = np.random.default_rng(0).permutation(size[0] * size[1]).reshape(1, *size, 1).astype(np.float32)
    images = np.tile(images, (64, 1, 1, 1))
    for name, moved in (
        ('xflip', lambda x: [x, x[:, ::-1]]),
        ('rotate90', lambda x: [np.rot90(x, k) for k in range(0, 4, 1 if size[0] == size[1] else 2)]),
    ):
        expected = {y.tobytes() for y in map(np.ascontiguousarray, moved(images[0]))}
        assert {np.asarray(y).tobytes() for y in run(images, ALWAYS, keys_of(64), only(name))} == expected


@pytest.mark.parametrize(
    'name, fraction',
    [
        ('xflip', 1 / 2),
        ('rotate90', 3 / 4),
        ('xint', 3 / 4),
        ('scale', 1),
        ('rotate', 1),
        ('aniso', 1),
        ('xfrac', 1),
        ('brightness', 1),
        ('contrast', 1),
        ('lumaflip', 1 / 2),
        ('hue', 1),
        ('saturation', 1),
        ('noise', 1),
        ('cutout', 1),
    ],
)
def test_transforms_are_applied_with_probability_p(name, fraction):
    """`fraction`: of the transforms that are applied, how many are not the identity."""
    n, p = 800, 0.4
    images = np.tile(np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32), (n, 1, 1, 1))
    moved = np.abs(run(images, p, keys_of(n), only(name)) - images).max((1, 2, 3)) > 1e-4
    assert abs(moved.mean() - fraction * p) < 4 * np.sqrt(0.25 / n)
    if name == 'brightness':  # the multipliers are one mechanism; one compilation is enough
        halved = dataclasses.replace(only(), brightness=0.5)
        moved = np.abs(run(images, p, keys_of(n), halved) - images).max((1, 2, 3)) > 1e-4
        assert abs(moved.mean() - fraction * p / 2) < 4 * np.sqrt(0.25 / n)


def color_maps(name, n=500):
    """Matrices [n, 3, 3] and offsets [n, 3], measured on an image of black and the three primaries."""
    image = np.concatenate([np.zeros((1, 3)), np.eye(3)]).reshape(1, 2, 2, 3).astype(np.float32)
    colors = np.asarray(run(np.tile(image, (n, 1, 1, 1)), ALWAYS, keys_of(n), only(name))).reshape(n, 4, 3)
    return np.swapaxes(colors[:, 1:] - colors[:, :1], 1, 2), colors[:, 0]


def assert_distributed(samples, distribution, *args):
    assert scipy.stats.kstest(samples, distribution, args).pvalue > 1e-3


def test_brightness_and_contrast():
    matrix, offset = color_maps('brightness')
    np.testing.assert_allclose(matrix, np.tile(np.eye(3), (500, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(offset, offset[:, :1] * np.ones(3), atol=1e-6)
    assert_distributed(offset[:, 0], 'norm', 0, 0.2)
    matrix, offset = color_maps('contrast')
    np.testing.assert_allclose(matrix, matrix[:, :1, :1] * np.eye(3), atol=1e-5)
    assert_distributed(np.log2(matrix[:, 0, 0]), 'norm', 0, 0.5)


def test_luma_flip_is_a_householder_reflection():
    matrix, _ = color_maps('lumaflip')
    flipped = np.einsum('nij,i,j->n', matrix, LUMA, LUMA) < 0
    np.testing.assert_allclose(
        matrix[flipped], np.tile(np.eye(3) - 2 * np.outer(LUMA, LUMA), (flipped.sum(), 1, 1)), atol=1e-6
    )
    np.testing.assert_allclose(matrix[~flipped], np.tile(np.eye(3), ((~flipped).sum(), 1, 1)), atol=1e-6)


def test_hue_rotates_about_the_luma_axis():
    matrix, _ = color_maps('hue')
    turn = Rotation.from_matrix(matrix).as_rotvec()
    np.testing.assert_allclose(np.cross(turn, LUMA), 0, atol=1e-4)
    np.testing.assert_allclose(Rotation.from_rotvec(turn).as_matrix(), matrix, atol=1e-5)
    assert_distributed(turn @ LUMA, 'uniform', -np.pi, 2 * np.pi)


def test_saturation_keeps_grey_and_scales_the_rest():
    matrix, _ = color_maps('saturation')
    gain = np.trace(matrix, axis1=1, axis2=2) / 2 - 0.5
    grey = np.outer(LUMA, LUMA)
    np.testing.assert_allclose(matrix, grey + gain[:, None, None] * (np.eye(3) - grey), atol=1e-4)
    assert_distributed(np.log2(gain), 'norm', 0, 1)


def test_color_on_one_channel_is_color_on_grey():
    grey = np.random.default_rng(0).normal(size=(16, 2, 2, 1)).astype(np.float32)
    one = run(grey, 0.8, keys_of(16), PRESETS['color'])
    three = run(np.tile(grey, 3), 0.8, keys_of(16), PRESETS['color'])
    np.testing.assert_allclose(three, np.tile(one, 3), atol=1e-5)


def test_geometric_strengths():
    """Drawn affine maps, as the image sees them (not inverted), against the published distributions."""
    width, height, n = 40, 24, 500

    @jax.jit
    def maps(keys):
        draw = lambda name: jax.vmap(lambda key: _inverse_affine(key, ALWAYS, only(name), width, height))(keys)
        return {name: draw(name) for name in ('scale', 'aniso', 'rotate', 'xfrac', 'xint')}

    drawn = {
        name: np.linalg.inv(np.concatenate([value, np.tile([[[0, 0, 1]]], (n, 1, 1))], 1))
        for name, value in maps(keys_of(n, seed=3)).items()
    }
    np.testing.assert_allclose(drawn['scale'][:, 0, 0], drawn['scale'][:, 1, 1], rtol=1e-6)
    assert_distributed(np.log2(drawn['scale'][:, 0, 0]), 'norm', 0, 0.2)
    np.testing.assert_allclose(drawn['aniso'][:, 0, 0] * drawn['aniso'][:, 1, 1], 1, rtol=1e-5)
    assert_distributed(np.log2(drawn['aniso'][:, 0, 0]), 'norm', 0, 0.2)
    np.testing.assert_allclose(np.linalg.det(drawn['rotate']), 1, rtol=1e-5)
    assert_distributed(np.arctan2(drawn['rotate'][:, 1, 0], drawn['rotate'][:, 0, 0]), 'uniform', -np.pi, 2 * np.pi)
    assert_distributed(drawn['xfrac'][:, 0, 2] / width, 'norm', 0, 0.125)
    assert_distributed(drawn['xfrac'][:, 1, 2] / height, 'norm', 0, 0.125)
    assert set(np.unique(drawn['xint'][:, 0, 2])) == set(range(-5, 6))
    assert set(np.unique(drawn['xint'][:, 1, 2])) == set(range(-3, 4))


def test_octave_filters_split_the_spectrum():
    filters = _octave_filters()
    np.testing.assert_allclose(filters.sum(0), np.eye(1, 43, 21)[0], atol=1e-12)
    response = np.abs(np.fft.rfft(filters, 512))  # [4, 257]
    for i, (low, high) in enumerate([(0, 32), (32, 64), (64, 128), (128, 257)]):
        assert (response[:, (low + high) // 2].argmax()) == i
        assert response[i, (low + high) // 2] > 0.5
    half = np.convolve(SYM2, SYM2[::-1]) / 2
    lowest = np.convolve(np.convolve(half, scipy.signal.upfirdn([1], half, 2)), scipy.signal.upfirdn([1], half, 4))
    np.testing.assert_allclose(filters[0], lowest, atol=1e-12)


def test_filter_octaves_is_a_separable_convolution():
    image, gains = np.random.default_rng(0).normal(size=(1, 40, 30, 1)), np.array([[0.5, 2, 1.5, 0.7]])
    taps = (gains @ _octave_filters())[0]
    expected = scipy.ndimage.convolve1d(scipy.ndimage.convolve1d(image, taps, 1, mode='mirror'), taps, 2, mode='mirror')
    actual = filter_octaves(jnp.asarray(image, jnp.float32), jnp.asarray(gains, jnp.float32))
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    unchanged = filter_octaves(jnp.asarray(image, jnp.float32), jnp.ones((1, 4)))
    np.testing.assert_allclose(unchanged, image, atol=1e-5)


def test_octave_gains_keep_the_power_of_natural_images():
    n, p = 4000, 0.1
    gains = np.asarray(jax.jit(jax.vmap(lambda key: _octave_gains(key, p)))(keys_of(n)))
    power = gains**2 @ (np.array([10, 1, 1, 1]) / 13)
    fired = np.array([len(np.unique(g.round(5))) for g in gains]) - 1
    assert abs((fired > 0).mean() - (1 - (1 - p) ** 4)) < 4 * np.sqrt(0.25 / n)
    np.testing.assert_allclose(power[fired <= 1], 1, rtol=1e-4)
    assert abs(power.mean() - 1) < 0.05


def test_noise_is_half_normal_in_strength_and_independent_per_pixel():
    noise = np.asarray(run(np.zeros((300, 16, 16, 3), np.float32), ALWAYS, keys_of(300), only('noise')))
    sigma = noise.std((1, 2, 3))
    assert_distributed(sigma, 'halfnorm', 0, 0.1)
    unit = noise / sigma[:, None, None, None]
    assert_distributed(unit[:20].ravel(), 'norm')
    assert abs(np.mean(unit[..., 0] * unit[..., 1])) < 0.02
    assert abs(np.mean(unit[:, 1:] * unit[:, :-1])) < 0.02


def test_cutout_is_half_the_width_and_height():
    holes = np.asarray(run(np.ones((300, 16, 24, 1), np.float32), ALWAYS, keys_of(300), only('cutout')))[..., 0] == 0
    rows, columns = holes.any(2), holes.any(1)
    np.testing.assert_array_equal(holes, rows[:, :, None] & columns[:, None])
    assert rows.sum(1).max() == 8 and columns.sum(1).max() == 12
    inside = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1])
    assert inside.sum() > 30
    assert (holes[inside].sum((1, 2)) == 8 * 12).all()
    assert 0.4 < np.mean(rows[:, :8].sum(1) > rows[:, 8:].sum(1)) < 0.6


@pytest.fixture(scope='module')
def everything():
    """The whole pipeline, jitted once: images [6, 8, 12, 3]."""
    images = smooth_images(6, 8, 12)
    return images, jax.jit(lambda images, p, keys: ada(images, p, keys, PRESETS['bgcfnc']))


def test_p_zero_returns_the_images(everything):
    images, augment = everything
    np.testing.assert_array_equal(augment(images, 0.0, keys_of(6)), images)


def test_p_is_traced_once(everything):
    images, augment = everything
    augment(images, 0.1, keys_of(6))
    count = augment._cache_size()
    first, second = augment(images, 0.3, keys_of(6)), augment(images, 0.9, keys_of(6, seed=1))
    assert augment._cache_size() == count
    assert not np.allclose(first, second)


def test_an_image_depends_only_on_its_own_key(everything):
    images, augment = everything
    keys, order = keys_of(6), np.array([3, 5, 0, 1, 4, 2])
    together = np.asarray(augment(images, 0.7, keys))
    np.testing.assert_allclose(augment(images[order], 0.7, keys[order]), together[order], atol=1e-6)
    other = keys_of(6, seed=9).at[2].set(keys[2])
    np.testing.assert_allclose(augment(images, 0.7, other)[2], together[2], atol=1e-6)
    assert not np.allclose(augment(images, 0.7, other)[3], together[3])


def test_output_is_affine_in_the_images(everything):
    images, augment = everything
    moved = lambda x: augment(x, 0.7, keys_of(6)) - augment(0 * x, 0.7, keys_of(6))
    np.testing.assert_allclose(moved(3 * images), 3 * moved(images), atol=1e-4)


def test_gradients_of_second_order_exist():
    """An R1-like function: the gradient of a squared gradient through ADA agrees with finite differences."""
    with jax.enable_x64(True):
        images, keys = np.float64(smooth_images(2, 6, 6)), keys_of(2, seed=5)
        logits = lambda x: jnp.sum(jnp.sin(ada(x, 0.9, keys, PRESETS['bgcf'])))
        r1 = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jax.grad(logits)(x) ** 2)))
        direction = np.random.default_rng(0).normal(size=images.shape)
        expected = (r1(images + 1e-5 * direction)[0] - r1(images - 1e-5 * direction)[0]) / 2e-5
        np.testing.assert_allclose(np.sum(r1(images)[1] * direction), expected, rtol=1e-6)


def test_what_is_off_is_not_in_the_program():
    trace = lambda config: str(
        jax.make_jaxpr(lambda x, p, keys: ada(x, p, keys, config))(jnp.zeros((2, 8, 8, 3)), 0.5, keys_of(2))
    )
    assert not jax.make_jaxpr(lambda x, keys: ada(x, 0.5, keys, only()))(jnp.zeros((2, 8, 8, 3)), keys_of(2)).eqns
    assert 'gather' not in trace(PRESETS['color'])
    assert 'dot_general' not in trace(only('noise'))
    assert len(trace(PRESETS['blit'])) < len(trace(PRESETS['bg'])) < len(trace(PRESETS['bgc']))


def test_bfloat16_stays():
    images, config = jnp.asarray(smooth_images(2, 8, 8), jnp.bfloat16), only('scale', 'contrast', 'imgfilter', 'noise')
    exact = run(images.astype(jnp.float32), 0.8, keys_of(2), config)
    rounded = run(images, 0.8, keys_of(2), config)
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), exact, atol=0.1)


@pytest.mark.parametrize('shape, keys', [((8, 8, 3), 8), ((2, 8, 8, 4), 2), ((2, 8, 8, 3), 3)])
def test_wrong_shapes_raise(shape, keys):
    with pytest.raises(ValueError, match='ada takes'):
        ada(jnp.zeros(shape), 0.5, keys_of(keys))


def test_adapt_p_takes_500_kimg_from_zero_to_one():
    step = jax.jit(adapt_p)
    p = jnp.zeros(())
    for _ in range(25):
        p = step(p, 0.9, 10_000)
    np.testing.assert_allclose(p, 0.5, atol=1e-5)
    np.testing.assert_allclose(step(p, 0.1, 10_000), 0.48, atol=1e-5)
    np.testing.assert_allclose(adapt_p(p, 0.9, 1000, kimg=100), 0.51, atol=1e-5)
    for _ in range(30):
        p = step(p, 0.9, 10_000)
    np.testing.assert_allclose(p, P_MAX)
    assert step(jnp.float32(0.001), 0.5, 10_000) == 0
    assert adapt_p(0.3, 1.0, 10_000, target=0.0) == 0.3


def test_make_augment_reads_presets_and_names():
    arguments = jnp.zeros((2, 8, 8, 3)), 0.5, keys_of(2)
    for transforms, config in (
        ('', PRESETS['bgc']),
        ('bg', PRESETS['bg']),
        ('xflip, cutout', only('xflip', 'cutout')),
        ('color,noise', dataclasses.replace(PRESETS['color'], noise=1.0)),
    ):
        augment = make_augment(AugmentConfig(name='ada', transforms=transforms))
        expected = jax.make_jaxpr(lambda *args, config=config: ada(*args, config))(*arguments)
        assert str(jax.make_jaxpr(augment)(*arguments)) == str(expected)
    assert make_augment(AugmentConfig())(*arguments) is arguments[0]
    assert AdaConfig() == PRESETS['bgc'] and PRESETS['bgcfnc'] == only(*TRANSFORMS)


@pytest.mark.parametrize(
    'section, message',
    [
        ({'name': 'ada', 'transforms': 'xflp'}, r"method\.augment\.transforms: .*'xflp'.*did you mean 'xflip'.*xint"),
        (
            {'name': 'diffaugment', 'transforms': 'bgc'},
            r'method\.augment\.transforms: .*known: color, cutout, translation',
        ),
        ({'name': 'adda'}, r"method\.augment\.name: .*did you mean 'ada'"),
        ({'name': 'ada,diffaugment'}, r'method\.augment\.name: expected one name'),
        ({'name': 'ada', 'p': 1.5}, r'method\.augment\.p: '),
        ({'name': 'ada', 'p': -0.1}, r'method\.augment\.p: '),
        ({'name': 'ada', 'p': '0->1', 'target': 0.0}, r'method\.augment\.p: '),
        ({'name': 'ada', 'p': '0->0.3'}, r'method\.augment\.p: .*; set method\.augment\.target=0'),
        ({'name': 'ada', 'adjust_kimg': 0}, r'method\.augment\.adjust_kimg: '),
    ],
)
def test_errors_name_the_field(section, message):
    with pytest.raises(UserError, match=f'^{message}') as caught:
        AugmentConfig(**section)
    assert caught.value.field.startswith('method.augment.')


def test_negative_multipliers_raise():
    with pytest.raises(ValueError, match=r'AdaConfig\.noise'):
        AdaConfig(noise=-1)
