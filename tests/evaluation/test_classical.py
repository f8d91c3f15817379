"""Classical filters on a synthetic picture whose degradation is known."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from productgen.degrade.tasks import SCALES
from productgen.evaluation.classical import CLASSICAL

SIZE = 96, 80
FILTERS = [(task, name) for task, found in CLASSICAL.items() for name in found]


@pytest.fixture(scope='module')
def clean():
    """Soft shapes in several colours, uint8 [96, 80, 3]."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / 16
    planes = [np.sin(x + 0.7 * c) * np.cos(y - c) + (np.hypot(x - 2, y - 3) < 1.2 + 0.3 * c) for c in range(3)]
    return np.rint(np.clip(90 + 50 * np.stack(planes, -1), 0, 255)).astype(np.uint8)


def degraded(clean, task):
    """The picture before restoration, and the mask of `inpaint`."""
    draw, mask = np.random.default_rng(0), None
    if task in ('sr2', 'sr4'):
        size = SIZE[1] // SCALES[task], SIZE[0] // SCALES[task]
        return np.asarray(Image.fromarray(clean).resize(size, Image.Resampling.BICUBIC)), mask
    if task == 'denoise':
        noisy = clean + draw.normal(0, 20, clean.shape)
        return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8), mask
    if task == 'jpeg':
        file = io.BytesIO()
        Image.fromarray(clean).save(file, 'JPEG', quality=8)
        return np.asarray(Image.open(file)), mask
    if task == 'deblur':
        return cv2.GaussianBlur(clean, (0, 0), 1.5), mask
    mask = draw.random(SIZE) < 0.2
    mask[30:38] = True
    return np.where(mask[..., None], 128, clean).astype(np.uint8), mask


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def test_every_task_has_filters():
    assert CLASSICAL.keys() == SCALES.keys()


@pytest.mark.parametrize('task, name', FILTERS)
def test_filters_restore(clean, task, name):
    image, mask = degraded(clean, task)
    before = image.copy()
    found = CLASSICAL[task][name](image, mask)
    assert found.dtype == np.uint8 and found.shape == clean.shape and np.array_equal(image, before)
    scale = SCALES[task]
    gain = psnr(found, clean) - psnr(image.repeat(scale, 0).repeat(scale, 1), clean)
    assert gain > {'jpeg': 0.0, 'deblur': 0.3}.get(task, 1.0)


@pytest.mark.parametrize('name', CLASSICAL['inpaint'])
def test_known_pixels_stay_and_missing_ones_are_not_read(clean, name):
    image, mask = degraded(clean, 'inpaint')
    found = CLASSICAL['inpaint'][name](image, mask)
    assert np.array_equal(found[~mask], clean[~mask])
    other = np.where(mask[..., None], np.uint8([0, 255, 9]), image)
    assert np.array_equal(CLASSICAL['inpaint'][name](other, mask[..., None]), found)
    nothing = np.zeros(SIZE, bool)
    assert np.array_equal(CLASSICAL['inpaint'][name](clean, nothing), clean)


@pytest.mark.parametrize('name', CLASSICAL['denoise'])
def test_a_picture_without_noise_stays_as_it_is(name):
    flat = np.full((*SIZE, 3), 77, np.uint8)
    assert np.array_equal(CLASSICAL['denoise'][name](flat), flat)


@pytest.mark.parametrize('name', ['richardson_lucy', 'wiener'])
def test_a_known_kernel_is_undone(clean, name):
    image, _ = degraded(clean, 'deblur')
    settings = {'richardson_lucy': {'steps': 12.0}, 'wiener': {'balance': 0.003}}[name]
    found = CLASSICAL['deblur'][name].with_settings(sigma=1.5, **settings)(image)
    assert psnr(found, clean) > psnr(image, clean) + 1.5


def test_other_settings_give_other_results(clean):
    image, _ = degraded(clean, 'denoise')
    weak = CLASSICAL['denoise']['tv'].with_settings(factor=0.1)
    assert psnr(weak(image), image) > psnr(CLASSICAL['denoise']['tv'](image), image) + 3


@pytest.mark.parametrize('task, name', FILTERS)
def test_the_grid_names_the_settings(task, name):
    one = CLASSICAL[task][name]
    assert one.grid.keys() == one.settings.keys()
