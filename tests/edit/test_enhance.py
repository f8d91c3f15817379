"""Steps against Pillow, OpenCV, scikit-image and colour formulas; the text that names them."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab

from productgen.config import UserError
from productgen.data.native import Photo
from productgen.edit.enhance import STEPS, enhance, parse_steps


def picture(height=60, width=80, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(40, 216, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def photo(pixels=None, **fields):
    return Photo((picture() if pixels is None else pixels).astype(np.float32) / 255, **fields)


def after(text, source=None):
    return enhance(source or photo(), parse_steps(text, 'enhance.steps'))


@pytest.mark.parametrize('name, enhancer', [('saturation', ImageEnhance.Color)])
@pytest.mark.parametrize('amount', [0.0, 0.5, 1.0, 1.6])
def test_like_pillow(name, enhancer, amount):
    expected = np.asarray(enhancer(Image.fromarray(picture())).enhance(amount)).astype(float)
    found = np.clip(after(f'{name}:amount={amount}').pixels, 0, 1) * 255
    assert np.abs(found - expected).max() <= 2


def test_exposure_is_in_linear_light():
    """Twice the light of half of white is white: sRGB 0.7354 is 0.5."""
    found = after('exposure:stops=1', photo(np.full((4, 5, 3), 0.735357 * 255)))
    np.testing.assert_allclose(found.pixels, 1, atol=1e-4)


def test_levels():
    low, high = np.percentile(picture() / 255, (1, 99))
    found = after('levels:low=1:high=99').pixels
    np.testing.assert_allclose(found, (picture() / 255 - low) / (high - low), atol=1e-4)
    assert after('levels', photo(np.full((9, 9, 3), 80))).pixels.max() < 0.4  # plain pictures stay


def test_white_balance():
    cast = photo(np.full((30, 30, 3), (180, 150, 120)))
    for method in ('grey_world', 'white_patch'):
        found = after(f'white_balance:method={method}:limit=4', cast).pixels
        assert np.ptp(found.mean((0, 1))) < 1e-3
    pixels = np.full((60, 60, 3), (230, 220, 205))
    pixels[20:40, 20:40] = 90, 20, 30
    found = after('white_balance:method=background', photo(pixels)).pixels
    np.testing.assert_allclose(found[:5], 1, atol=1e-4)

    red = after('white_balance:method=background', photo(np.full((30, 30, 3), (200, 40, 40))))
    np.testing.assert_allclose(red.pixels[0, 0] * 255, (200, 40, 40), atol=1e-3)
    assert 'the border is coloured' in red.notes[0]


def test_grayscale_keeps_lightness():
    found = after('grayscale').pixels
    assert np.ptp(found, -1).max() < 1e-6
    np.testing.assert_allclose(rgb2lab(found)[..., 0], rgb2lab(picture() / 255)[..., 0], atol=0.05)


def test_sharpen():
    gray = np.repeat(picture()[..., :1], 3, -1)
    expected = gray / 255 + 0.8 * (gray / 255 - gaussian_filter(gray / 255, (2, 2, 0), mode='reflect'))
    np.testing.assert_allclose(after('sharpen:radius=2:amount=0.8', photo(gray)).pixels, expected, atol=2e-3)


def test_denoise():
    clean = np.full((60, 60, 3), 120.0)
    noisy = clean + np.random.default_rng(0).normal(0, 4, clean.shape)
    found = after('denoise:strength=5', photo(noisy)).pixels * 255
    assert np.std(found - clean) < 0.4 * np.std(noisy - clean)


def test_clahe_raises_contrast():
    flat = photo(110 + picture() / 12)
    assert after('clahe:clip=4', flat).pixels.std() > 1.5 * flat.pixels.std()


def test_canvas():
    pixels = np.full((300, 400, 3), 243)
    pixels[100:200, 40:240] = 30, 90, 160
    found = after('canvas:fill=0.8', photo(pixels))
    assert found.size == (250, 250)
    product = np.abs(found.pixels - 1).max(-1) > 0.1
    rows, columns = np.where(product.any(1))[0], np.where(product.any(0))[0]
    assert len(columns) == 200 and len(rows) == 100 and columns[0] == 25 and abs(rows[0] - 75) <= 1
    assert found.pixels[0].min() == found.pixels[-1].min() == 1
    assert after('canvas:ratio=4x5:fill=0.8', photo(pixels)).size == (312, 250)
    assert after('canvas:fill=0.8:size=125', photo(pixels)).size == (125, 125)
    large = after('canvas:fill=0.8:size=1000', photo(pixels))
    assert large.size == (250, 250) and 'smaller than 1000' in large.notes[0]
    alpha = np.zeros((300, 400), np.float32)
    alpha[100:200, 40:240] = 1
    cut = after('canvas:fill=0.8', photo(pixels, alpha=alpha))
    assert cut.size == (250, 250) and cut.alpha is None and cut.pixels[0].min() == 1


@pytest.mark.parametrize('shape', [(1, 1), (1, 40), (40, 1)])
@pytest.mark.parametrize('name', STEPS)
def test_any_size_and_no_loss_of_depth(name, shape):
    found = after(name, photo(np.full((*shape, 3), 100), depth=16))
    assert found.pixels.dtype == np.float32 and np.isfinite(found.pixels).all() and found.depth == 16
    assert name == 'canvas' or found.size == shape


WRONG = {
    'levls': "enhance.steps: there is no 'levls'; did you mean 'levels'",
    'levels:lo=1': "enhance.steps: levels.lo: no such field; did you mean 'low'",
    'levels:low': "'low' is not OPTION=VALUE",
    'levels:low=x': "levels.low: 'x' is not a number",
    'levels:low=5:high=2': 'must be below high',
    'exposure:stops=9': 'stops: 9.0 is not from -5 to 5',
    'white_balance:method=gray_world': "did you mean 'grey_world'",
    'canvas:fill=2': 'fill: 2.0 is not from 0.1 to 1',
    'canvas:ratio=wide': 'is not WIDTHxHEIGHT',
    ' , ': 'names no step',
}


@pytest.mark.parametrize('text', WRONG)
def test_wrong_texts(text):
    with pytest.raises(UserError) as found:
        parse_steps(text, 'enhance.steps')
    assert WRONG[text] in str(found.value) and 'enhance.steps' in str(found.value)
