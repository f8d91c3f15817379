"""Cross entropy and the contrastive loss against NumPy in float64."""

import jax
import numpy as np
import pytest

from productgen.losses.classification import cross_entropy, nt_xent


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy_is_summed_over_known_attributes(smoothing):
    draw = np.random.default_rng(0)
    classes = [draw.normal(size=(4, n)).astype(np.float32) for n in (3, 5)]
    label = np.array([[0, 4], [2, -1], [-1, -1], [1, 0]])
    expected = np.zeros(4)
    for a, logits in enumerate(classes):
        probability = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1, keepdims=True)
        for i, code in enumerate(label[:, a]):
            if code >= 0:
                target = np.full(logits.shape[1], smoothing / logits.shape[1])
                target[code] += 1 - smoothing
                expected[i] -= target @ np.log(probability[i])
    np.testing.assert_allclose(cross_entropy(classes, label, smoothing), expected, rtol=1e-5)
    assert expected[2] == 0


def test_an_unknown_label_has_no_gradient_and_extreme_logits_are_finite():
    slope = jax.grad(lambda x: cross_entropy([x], np.array([[-1], [1]]), 0.1).sum())(np.full((2, 3), 1e4, np.float32))
    assert not np.any(slope[0]) and np.isfinite(slope).all() and np.any(slope[1])


def test_cross_entropy_needs_a_classifier_per_attribute():
    with pytest.raises(ValueError, match='1 classifiers for 2 attributes'):
        cross_entropy([np.zeros((4, 3), np.float32)], np.zeros((4, 2), int))


def test_nt_xent_averages_equation_1_over_both_views():
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(2, 5, 7))
    views = np.concatenate([first, second])
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    terms = np.zeros(10)
    for i in range(10):
        j = (i + 5) % 10
        others = [np.exp(views[i] @ views[k] / 0.3) for k in range(10) if k != i]
        terms[i] = -np.log(np.exp(views[i] @ views[j] / 0.3) / np.sum(others))
    value = nt_xent(first.astype(np.float32), second.astype(np.float32), 0.3)
    np.testing.assert_allclose(value, (terms[:5] + terms[5:]) / 2, rtol=1e-5)


def test_nt_xent_of_equal_views_is_chance_level():
    same = np.ones((6, 3), np.float32)
    np.testing.assert_allclose(nt_xent(same, same, 0.5), np.log(11), rtol=1e-6)


@pytest.mark.parametrize('shapes', [((4, 3), (4, 2)), ((1, 3), (1, 3)), ((4,), (4,))])
def test_nt_xent_needs_two_views_of_several_images(shapes):
    with pytest.raises(ValueError, match='two views'):
        nt_xent(*(np.ones(shape, np.float32) for shape in shapes), 0.5)
