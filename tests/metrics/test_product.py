"""Metrics of product photos against closed forms, SciPy and the ground truth of the embedded catalogue."""

import numpy as np
import pytest
from scipy import ndimage, special

from productgen.data.catalog import Catalog
from productgen.data.catalog.items import PALETTE
from productgen.metrics.colour import ciede2000, lab
from productgen.metrics.product import backdrop, colour_error, edge_sharpness, placement, product_figures, product_mask

SIDE = 64
PLAIN, TEXTURED = ('white', 'grey', 'beige', 'blue', 'pink', 'dark'), ('wood', 'marble')


def disc(side=SIDE, radius=16.0, x=0.0, y=0.0):
    """Mask of a disc, bool [side, side], with offset (x, y) from the centre in pixels."""
    places = np.arange(side) - (side - 1) / 2
    return np.hypot(places - x, places[:, None] - y) < radius


def painted(mask, inside=(180, 40, 40), outside=(240, 240, 240)):
    return np.where(mask[..., None], inside, outside).astype(np.uint8)


@pytest.fixture(scope='module')
def catalogue():
    """40 images on plain and 20 on textured backdrops, nearly all of different products, with a seed not used to choose
    the threshold."""
    catalog = Catalog((SIDE, SIDE), 3000, seed=7)
    backdrops = np.array(catalog.attributes['background'])[catalog.codes['background']]
    chosen = [np.flatnonzero(np.isin(backdrops, part)) for part in (PLAIN, TEXTURED)]
    chosen = chosen[0][::55][:40], chosen[1][::17][:20]
    return [[{**catalog[i], 'background': backdrops[i]} for i in part] for part in chosen]


def overlaps(pictures):
    """Intersection over union of the estimated and the true masks."""
    found = []
    for picture in pictures:
        estimate, truth = product_mask(picture['image']), picture['mask'][..., 0] > 127
        found.append((estimate & truth).sum() / (estimate | truth).sum())
    return np.array(found)


def test_masks_of_the_catalogue(catalogue):
    """Half of the masks are nearly perfect; a few miss parts of the backdrop's colour. Textures are harder."""
    plain, textured = (overlaps(part) for part in catalogue)
    assert plain.mean() > 0.87 and np.median(plain) > 0.94 and np.quantile(plain, 0.1) > 0.7
    assert textured.mean() > 0.7


def test_placement_in_the_catalogue(catalogue):
    """Values of the estimated mask match those of the true one, except where the mask is wrong."""
    errors = []
    for picture in catalogue[0]:
        both = placement(product_mask(picture['image'])), placement(picture['mask'][..., 0] > 127)
        errors.append([abs(both[0][name] - both[1][name]) for name in both[0]])
    assert (np.median(errors, 0) < 0.02).all()
    assert (np.quantile(errors, 0.8, axis=0) < 0.1).all()


def test_unevenness_separates_wood_from_plain_backdrops(catalogue):
    """Grey backdrops, lit from above, and marble, whose texture is faint, are in between."""
    figures = {}
    for picture in (*catalogue[0], *catalogue[1]):
        figures.setdefault(picture['background'], []).append(backdrop(picture['image'])['unevenness'])
    assert max(max(figures[name]) for name in ('white', 'beige', 'blue', 'pink', 'dark')) < 1.5
    assert np.median(figures['wood']) > 3


def test_products_have_the_named_colour():
    """For plain products in soft light, the nearest of twelve named colours is mostly the right one."""
    catalog = Catalog((32, 32), 4000)
    codes = {name: np.array(values)[catalog.codes[name]] for name, values in catalog.attributes.items()}
    chosen = (codes['pattern'] == 'plain') & (codes['light'] == 'soft') & (codes['material'] != 'glass')
    right, own = [], []
    for i in np.flatnonzero(chosen)[:60]:
        picture = catalog[i]
        errors = {n: colour_error(picture['image'], picture['mask'][..., 0] > 127, c) for n, c in PALETTE.items()}
        right.append(min(errors, key=errors.get) == codes['colour'][i])
        own.append(errors[codes['colour'][i]])
    assert np.mean(right) > 0.75 and np.median(own) < 12


def test_mask_of_a_disc_is_exact():
    mask = disc(x=5, y=-3)
    np.testing.assert_array_equal(product_mask(painted(mask)), mask)
    floats = painted(mask).astype(np.float32) / 127.5 - 1
    np.testing.assert_array_equal(product_mask(floats), mask)
    assert product_figures(floats) == pytest.approx(product_figures(painted(mask)), rel=1e-4, abs=1e-4)


def test_masks_keep_pairs_and_drop_specks():
    pair = disc(radius=8, x=-16) | disc(radius=7, x=16)
    speck = disc(radius=1.5, y=-25)
    np.testing.assert_array_equal(product_mask(painted(pair | speck)), pair)


def test_mask_with_uneven_light_and_a_product_at_the_border():
    """The product covers half of two sides of the frame, a quarter of it; lightness decreases by 20 to the right."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:32, :32] = True
    mask[10:20, 10:20] = False  # a hole shows the backdrop
    image = painted(mask).astype(float)
    image[~mask] -= np.broadcast_to(np.linspace(0, 50, SIDE)[:, None], image.shape)[~mask]
    np.testing.assert_array_equal(product_mask(image.astype(np.uint8)), mask)


def test_masks_exclude_shadows():
    mask, shadow = disc(), ndimage.gaussian_filter(disc(x=6, y=10).astype(float), 3)
    image = painted(mask).astype(float)
    image[~mask] *= 1 - 0.2 * shadow[~mask][:, None]
    np.testing.assert_array_equal(product_mask(image.astype(np.uint8)), mask)


def test_backdrop_in_closed_form():
    """White has 0; a grey differs in lightness only; two shades are uneven by half of their difference."""
    assert backdrop(painted(disc(), outside=(255, 255, 255))) == pytest.approx({'off_white': 0, 'unevenness': 0})
    grey, white = (lab(np.full(3, v / 255)) for v in (200, 255))
    found = backdrop(painted(disc(), outside=(200, 200, 200)))
    assert found['off_white'] == pytest.approx(float(ciede2000(grey, white)))
    stripes = np.broadcast_to(np.where(np.arange(SIDE) % 2, 200, 210)[:, None, None], (SIDE, SIDE, 3)).astype(np.uint8)
    difference = float(ciede2000(*(lab(np.full(3, v / 255)) for v in (200, 210))))
    assert backdrop(stripes)['unevenness'] == pytest.approx(difference / 2, rel=0.02)


def test_backdrop_ignores_a_product_over_40_percent_of_the_frame():
    covered = painted(disc())
    covered[: SIDE * 4 // 10] = (20, 120, 40)
    assert backdrop(covered) == pytest.approx(backdrop(painted(disc())))


def test_placement_matches_scipy():
    mask = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((40, 56)), 5) > 0.03
    found, (rows, columns) = placement(mask), ndimage.find_objects(mask.astype(int))[0]
    y, x = ndimage.center_of_mass(mask)
    expected = {
        'box_x': (columns.start + columns.stop) / 2 / 56 - 0.5,
        'box_y': (rows.start + rows.stop) / 2 / 40 - 0.5,
        'mass_x': (x + 0.5) / 56 - 0.5,
        'mass_y': (y + 0.5) / 40 - 0.5,
        'box_share': (columns.stop - columns.start) * (rows.stop - rows.start) / mask.size,
        'area_share': mask.sum() / mask.size,
    }
    assert found == pytest.approx(expected)


def test_placement_in_closed_form():
    x, y = 8 / 64, -4 / 64
    expected = {'box_x': x, 'box_y': y, 'mass_x': x, 'mass_y': y, 'box_share': 1 / 4, 'area_share': np.pi / 16}
    assert placement(disc(x=8, y=-4)) == pytest.approx(expected, abs=0.003)
    assert set(placement(np.ones((5, 5), bool)).values()) == {0, 1}


@pytest.mark.parametrize('sigma', [1.0, 2.0, 3.0])
def test_sharpness_of_a_blurred_edge_in_closed_form(sigma):
    """A step blurred by a Gaussian: the slope at its centre over the contrast within 4 pixels of the outline."""
    x = np.arange(SIDE) + 0.5 - SIDE / 2
    edge = 0.5 + 0.4 * special.erf(x / (sigma * np.sqrt(2)))
    image = np.broadcast_to(2 * edge[:, None] - 1, (SIDE, SIDE, 3))
    steepest = (special.erf(1.5 / (sigma * np.sqrt(2))) + special.erf(0.5 / (sigma * np.sqrt(2)))) / 4
    contrast = (special.erf(4.5 / (sigma * np.sqrt(2))) + special.erf(3.5 / (sigma * np.sqrt(2)))) / 2
    mask = np.broadcast_to(x > 0, (SIDE, SIDE))
    assert edge_sharpness(image, mask) == pytest.approx(steepest / contrast, rel=1e-6)
    assert steepest == pytest.approx(0.4 / sigma, rel=0.25)


def test_sharpness_decreases_with_blur(catalogue):
    """For a disc and for products, with the mask estimated from the blurred image."""
    products = [p['image'] for p, overlap in zip(catalogue[0], overlaps(catalogue[0]), strict=True) if overlap > 0.9]
    decreasing = []
    for image in (painted(disc()), *products[:12]):
        blurred = [ndimage.gaussian_filter(image / 127.5 - 1, (s, s, 0)) for s in (0, 0.6, 1, 1.6, 2.5)]
        found = [edge_sharpness(x, product_mask(x)) for x in blurred]
        decreasing.append((np.diff(found) < 0).all())
        assert found[0] > 1.5 * found[3]
    assert len(decreasing) == 13 and decreasing[0] and np.mean(decreasing) > 0.9


def test_sharpness_does_not_depend_on_contrast_and_size_of_the_product():
    image, mask = ndimage.gaussian_filter(painted(disc()) / 127.5 - 1, (1, 1, 0)), disc()
    assert edge_sharpness(0.3 * image - 0.2, mask) == pytest.approx(edge_sharpness(image, mask), rel=1e-9)
    small, large = (
        edge_sharpness(ndimage.gaussian_filter(painted(disc(radius=r)) / 127.5 - 1, (1, 1, 0)), disc(radius=r))
        for r in (10, 24)
    )
    assert small == pytest.approx(large, rel=0.05)


def test_sharpness_of_a_step_and_without_an_edge():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[20:40, 20:40] = True
    assert edge_sharpness(painted(mask), mask) == pytest.approx(0.5, rel=1e-6)
    assert np.isnan(edge_sharpness(painted(mask, (238,) * 3), mask))
    assert np.isnan(edge_sharpness(painted(mask), np.ones_like(mask)))


def test_colour_error_uses_the_median():
    image = painted(disc())
    image[30:34, 30:34] = (255, 255, 255)  # a highlight
    assert colour_error(image, disc(), (180, 40, 40)) == 0
    expected = ciede2000(lab(np.array([180, 40, 40]) / 255), lab(np.array([36, 82, 172]) / 255))
    assert colour_error(image, disc(), (36, 82, 172)) == pytest.approx(float(expected))


def test_an_empty_image_has_no_product():
    empty = np.full((SIDE, SIDE, 3), 250, np.uint8)
    assert not product_mask(empty).any()
    figures = product_figures(empty, (0, 0, 0))
    missing = {name for name, value in figures.items() if np.isnan(value)}
    assert missing == {*placement(np.zeros((2, 2), bool)), 'edge_sharpness', 'colour_error'}


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.int32),
        np.full((8, 8, 3), 200.0),
        np.full((8, 8, 3), np.nan),
    ],
)
def test_invalid_images_raise(image):
    for figure in (backdrop, product_mask, product_figures):
        with pytest.raises(ValueError, match='an image must be'):
            figure(image)
