"""Degradations against Pillow, OpenCV, SciPy and the statistics that they are named after."""

import io

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, special, stats

from productgen.config import UserError
from productgen.core.pixels import from_linear, to_linear
from productgen.degrade import blur, jpeg, light, masks, noise
from productgen.degrade.resize import FILTERS, resize
from productgen.degrade.tasks import SCALES, DegradeConfig, make_degradation, parse_interval, parse_kinds

KEYS = jax.random.split(jax.random.key(0), 4)


@pytest.fixture(scope='module')
def photo():
    """A picture with edges, a gradient and texture, uint8 [48, 64, 3]."""
    rows, columns = np.mgrid[:48, :64]
    picture = np.stack([4 * columns, 5 * rows, 128 + 60 * np.sin(rows / 3) * np.cos(columns / 2)], -1)
    picture[10:30, 20:40] = (220, 40, 60)
    return np.clip(picture + np.random.default_rng(0).normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


def floats(picture, count=1):
    return jnp.asarray(np.stack([picture] * count) / 255, jnp.float32)


@pytest.mark.parametrize('size', [(24, 32), (17, 41), (12, 16), (96, 130), (5, 64)])
@pytest.mark.parametrize('method', FILTERS)
def test_resizing_is_pillow_s(photo, method, size):
    pillow = Image.fromarray(photo).resize(size[::-1], getattr(Image.Resampling, method.upper()))
    ours = np.asarray(resize(floats(photo), size, method))[0] * 255
    # Pillow rounds twice, to half a level each time, and its weights are sums of up to 1.3 in size.
    assert np.abs(ours - np.asarray(pillow, np.float32)).max() <= 1.2


@pytest.mark.parametrize('quality', [1, 10, 49, 50, 75, 100])
def test_jpeg_has_pillow_s_tables(photo, quality):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, 'JPEG', quality=quality)
    found = Image.open(file).quantization
    for ours, theirs in zip(jpeg.tables(quality), (found[0], found[1]), strict=True):
        assert np.array_equal(np.asarray(ours[0], int).ravel(), theirs)


@pytest.mark.parametrize('subsample', [True, False])
@pytest.mark.parametrize('quality', [10, 40, 75, 95])
def test_jpeg_is_pillow_s(photo, quality, subsample):
    smooth = cv2.GaussianBlur(photo[:45, :59], (0, 0), 1)  # sides that no block divides
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, 'JPEG', quality=quality, subsampling=2 if subsample else 0)
    theirs = np.asarray(Image.open(file), np.float32)
    ours = np.asarray(jax.jit(jpeg.compress, static_argnums=2)(floats(smooth), quality, subsample))[0] * 255
    loss = np.abs(theirs - smooth).mean()
    assert np.abs(ours - theirs).mean() < (0.9 if subsample else 0.3)
    assert abs(np.abs(ours - smooth).mean() / loss - 1) < 0.1


def test_jpeg_qualities_are_those_of_each_picture(photo):
    both = jpeg.compress(floats(photo, 2), jnp.asarray([10.0, 90.0]))
    for i, quality in enumerate((10.0, 90.0)):
        np.testing.assert_allclose(both[i], jpeg.compress(floats(photo), quality)[0], atol=1e-6)


def test_jpeg_has_a_gradient(photo):
    x = floats(photo[:16, :16])
    gradient = jax.grad(lambda x: jnp.sum(jpeg.compress(x, 75) * jnp.cos(jnp.arange(16.0))[:, None]))(x)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-3


def test_blurs_are_scipy_s_and_opencv_s(photo):
    x = floats(photo)
    found = blur.apply_kernel(x, blur.gaussian_kernel(15, 1.5))[0]
    theirs = ndimage.gaussian_filter(photo / 255, (1.5, 1.5, 0), mode='mirror', truncate=7 / 1.5)
    np.testing.assert_allclose(found, theirs, atol=2e-6)
    for kernel in (blur.motion_kernel(15, 9.0, 0.7), blur.defocus_kernel(15, 4.0), blur.sinc_kernel(15, 1.2)):
        theirs = cv2.filter2D(photo / 255, -1, np.asarray(kernel[0], float), borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(blur.apply_kernel(x, kernel)[0], theirs, atol=5e-6)


def test_every_picture_has_its_own_kernel(photo):
    kernels = blur.gaussian_kernel(9, jnp.asarray([0.5, 2.0]))
    both = blur.apply_kernel(floats(photo, 2), kernels)
    for i in range(2):
        np.testing.assert_allclose(both[i], blur.apply_kernel(floats(photo), kernels[i : i + 1])[0], atol=1e-6)


def moments(kernel):
    """Sum and covariance [2, 2] of a kernel [K, K], rows first."""
    line = np.arange(len(kernel)) - len(kernel) // 2
    grid = np.stack(np.meshgrid(line, line, indexing='ij'))
    return kernel.sum(), np.einsum('iyx,jyx,yx->ij', grid, grid, kernel)


def test_kernels_are_as_wide_as_they_say():
    total, spread = moments(np.asarray(blur.gaussian_kernel(41, 3.0, 1.5, 0.0)[0], float))
    np.testing.assert_allclose([total, spread[1, 1], spread[0, 0]], [1, 9, 2.25], rtol=1e-3)
    total, spread = moments(np.asarray(blur.defocus_kernel(41, 8.0)[0], float))
    np.testing.assert_allclose([total, spread[0, 0], spread[1, 1]], [1, 16, 16], rtol=0.03)  # R^2 / 4
    total, spread = moments(np.asarray(blur.motion_kernel(41, 21.0, 0.0)[0], float))
    np.testing.assert_allclose([total, spread[1, 1]], [1, 21**2 / 12], rtol=0.03)
    assert spread[0, 0] < 0.5
    # Counter-clockwise: a motion of 45 degrees is up where it is right.
    assert moments(np.asarray(blur.motion_kernel(21, 11.0, np.pi / 4)[0], float))[1][0, 1] < -1


def test_the_sinc_kernel_has_scipy_s_bessel_function():
    line = np.arange(15) - 7
    r = np.hypot(*np.meshgrid(line, line))
    theirs = np.where(r == 0, 1.2 / 2, special.j1(1.2 * r) / np.where(r == 0, 1, r))
    np.testing.assert_allclose(blur.sinc_kernel(15, 1.2)[0], theirs / theirs.sum(), atol=1e-6)


def test_noises_have_their_moments():
    x = jnp.full((1, 200, 200, 3), 0.4)
    key = KEYS[:1]
    found = np.asarray(noise.gaussian(x, 25.0, key), float) - 0.4
    assert abs(found.std() * 255 - 25) < 0.3 and abs(found.mean()) < 1e-3
    found = np.asarray(noise.poisson(x, 50.0, key), float)
    assert abs(found.mean() - 0.4) < 1e-3 and abs(found.var() / (0.4 / 50) - 1) < 0.02
    for mean in 0.0, 0.5, 4, 9.9, 11, 60:
        counts = np.asarray(noise.poisson(jnp.full((1, 200, 200, 3), mean / 100), 100.0, key)) * 100
        edges = np.arange(200)
        share = np.searchsorted(np.sort(np.rint(counts).ravel()), edges, side='right') / counts.size
        assert abs(share - stats.poisson.cdf(edges, mean)).max() < 0.006, mean
    found = np.asarray(noise.salt_and_pepper(x, 0.1, key))[0]
    changed = (found != np.float32(0.4)).any(-1)
    assert abs(changed.mean() - 0.1) < 0.01 and set(np.unique(found[changed])) == {0.0, 1.0}
    assert (found.max(-1) == found.min(-1)).all() and abs(found[changed].mean() - 0.5) < 0.05
    found = to_linear(np.asarray(noise.camera(x, 0.002, 1e-5, key), float))
    linear = to_linear(np.float64(0.4))
    assert abs(found.mean() - linear) < 1e-3 and abs(found.var() / (0.002 * linear + 1e-5) - 1) < 0.03


def test_low_light_has_a_fraction_of_the_light():
    x = jnp.full((1, 100, 100, 3), 0.7)
    found = to_linear(np.asarray(light.low_light(x, 0.2, KEYS[:1], shot=1e-4), float))
    assert abs(found.mean() / (0.2 * to_linear(np.float64(0.7))) - 1) < 0.01


def test_linear_light_is_the_standard_s():
    x = np.linspace(0, 1, 256)
    np.testing.assert_allclose(from_linear(to_linear(x)), x, atol=1e-7)
    np.testing.assert_allclose(to_linear(np.array([0.04045, 0.5])), [0.04045 / 12.92, 0.21404114], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: jnp.sum(to_linear(x) + from_linear(x)))(jnp.zeros(3))).all()


@pytest.mark.parametrize('kind', masks.KINDS)
def test_masks_are_of_their_kind(kind):
    drawn = np.asarray(
        jax.jit(lambda keys: masks.draw(keys, (48, 64), (kind,)))(jax.random.split(jax.random.key(1), 32))
    )
    assert drawn.shape == (32, 48, 64, 1) and set(np.unique(drawn)) == {0, 1}
    area = drawn.mean((1, 2, 3))
    assert 0.01 < area.mean() < 0.4 and area.std() > 0.005 and area.max() < 0.9
    if kind == 'boxes':
        for mask in drawn[:8, ..., 0]:
            assert ndimage.label(mask)[1] <= 2


def test_a_mask_never_covers_everything():
    for size in ((1, 1), (1, 3), (2, 2)):
        drawn = np.asarray(masks.draw(jax.random.split(jax.random.key(2), 64), size))
        assert (drawn.mean((1, 2, 3)) < 1).all()


@pytest.mark.parametrize('task', SCALES)
def test_tasks_make_8_bit_inputs_that_depend_on_their_own_key(photo, task):
    degrade = jax.jit(make_degradation(task, DegradeConfig()))
    x = floats(photo, 4)
    found, scale = degrade(x, KEYS), SCALES[task]
    assert found['input'].shape == (4, 48 // scale, 64 // scale, 3)
    levels = np.asarray(found['input']) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=2e-4)
    assert levels.min() >= 0 and levels.max() <= 255
    other = degrade(x, KEYS.at[1].set(jax.random.key(9)))
    assert np.array_equal(other['input'][2], found['input'][2])
    assert (task in ('sr2', 'sr4')) == np.array_equal(other['input'][1], found['input'][1])
    if task == 'inpaint':
        known = np.asarray(found['mask']) == 0
        np.testing.assert_allclose(np.where(known, found['input'], 0), np.where(known, x, 0), atol=1e-6)


@pytest.mark.parametrize('kind', ['gaussian', 'poisson', 'camera', 'salt'])
def test_kinds_of_noise_are_about_as_strong(kind):
    x = jnp.full((1, 256, 256, 3), 0.5)
    found = make_degradation('denoise', DegradeConfig(noise=kind, sigma='20', stored=0))(x, KEYS[:1])['input']
    assert 14 < float(jnp.std(found)) * 255 < 26


@pytest.mark.parametrize('task', ['denoise', 'deblur'])
def test_cameras_store_a_share_as_jpeg(photo, task):
    x, keys = jnp.repeat(floats(photo), 32, 0), jax.random.split(jax.random.key(3), 32)
    never, half = (make_degradation(task, DegradeConfig(stored=s, stored_quality='70'))(x, keys) for s in (0, 0.5))
    changed = np.asarray(never['input'] != half['input']).any((1, 2, 3))
    assert 8 < changed.sum() < 24
    expected = jpeg.compress(never['input'], 70.0)
    np.testing.assert_array_equal(half['input'][changed], expected[changed])


def test_wrong_settings_name_their_field():
    for field, value, words in (
        ('sigma', '50-5', 'is not from'),
        ('sigma', 'much', "'5-50'"),
        ('quality', '0-50', 'is not from 1 to 100'),
        ('stored', 1.5, 'is not from 0 to 1'),
        ('noise', 'gausian', "did you mean 'gaussian'"),
        ('masks', '', 'there is no'),
    ):
        with pytest.raises(UserError, match=words) as error:
            DegradeConfig(**{field: value})
        assert f'method.degrade.{field}' in str(error.value)
    assert parse_interval('25', 'x', 0, 50) == (25, 25) and parse_interval(' 0.5-3 ', 'x', 0, 50) == (0.5, 3)
    assert parse_kinds('a, b', ('a', 'b'), 'x') == ('a', 'b')
