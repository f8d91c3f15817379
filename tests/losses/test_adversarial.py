"""Adversarial losses against their formulas in NumPy, in float64."""

import jax
import numpy as np
import pytest

from productgen.losses.adversarial import ADVERSARIAL, PAIRED, SIGNED

sigmoid = lambda x: 1 / (1 + np.exp(-x))

# What the generator and the discriminator minimise, by logits: one row a loss.
FORMULAS = {
    'minimax': (
        lambda real, fake: np.log(1 - sigmoid(fake)),
        lambda real, fake: -np.log(sigmoid(real)) - np.log(1 - sigmoid(fake)),
    ),
    'non_saturating': (
        lambda real, fake: -np.log(sigmoid(fake)),
        lambda real, fake: -np.log(sigmoid(real)) - np.log(1 - sigmoid(fake)),
    ),
    'least_squares': (
        lambda real, fake: (fake - 1) ** 2 / 2,
        lambda real, fake: (real - 1) ** 2 / 2 + fake**2 / 2,
    ),
    'wasserstein': (lambda real, fake: -fake, lambda real, fake: fake - real),
    'hinge': (
        lambda real, fake: -fake,
        lambda real, fake: -np.minimum(0, -1 + real) - np.minimum(0, -1 - fake),
    ),
    'relativistic': (
        lambda real, fake: -np.log(sigmoid(fake - real)),
        lambda real, fake: -np.log(sigmoid(real - fake)),
    ),
}
# At logits of zero.
AT_ZERO = {
    'minimax': (-np.log(2), 2 * np.log(2)),
    'non_saturating': (np.log(2), 2 * np.log(2)),
    'least_squares': (0.5, 0.5),
    'wasserstein': (0, 0),
    'hinge': (0, 2),
    'relativistic': (np.log(2), np.log(2)),
}

EACH = pytest.mark.parametrize('name', sorted(ADVERSARIAL))


def test_every_loss_has_its_formula_here():
    assert set(FORMULAS) == set(AT_ZERO) == set(ADVERSARIAL)


@EACH
def test_it_is_the_formula(name, x64):
    real, fake = np.random.default_rng(0).normal(size=(2, 100)) * 4
    values = ADVERSARIAL[name](real, fake)
    for value, formula in zip(values, FORMULAS[name], strict=True):
        assert value.shape == (100,)
        np.testing.assert_allclose(value, formula(real, fake), rtol=1e-10)


@EACH
def test_it_has_the_known_value_at_zero(name):
    for value, expected in zip(ADVERSARIAL[name](np.zeros(3), np.zeros(3)), AT_ZERO[name], strict=True):
        np.testing.assert_allclose(value, np.full(3, expected), rtol=1e-6)


@EACH
def test_values_and_gradients_stay_finite_at_extreme_logits(name):
    real, fake = np.float32([[-1e4, 1e4, -1e4, 1e4], [-1e4, -1e4, 1e4, 1e4]])
    for player in (0, 1):
        total = lambda real, fake, player=player: ADVERSARIAL[name](real, fake)[player].sum()
        value, grads = jax.value_and_grad(total, (0, 1))(real, fake)
        assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)


@EACH
def test_the_players_pull_fake_logits_apart_and_the_discriminator_lifts_real_ones(name):
    logit = np.full(1, 0.2, np.float32)  # not 0, where least squares has its target for fake images
    grad = lambda player, argument: float(
        jax.grad(lambda *logits: ADVERSARIAL[name](*logits)[player].sum(), argument)(logit, logit)[0]
    )
    assert grad(0, 1) < 0 < grad(1, 1) and grad(1, 0) < 0


@EACH
@pytest.mark.parametrize('shape', [(3,), (4, 1), ()])
def test_logits_of_other_shapes_are_refused(name, shape):
    with pytest.raises((ValueError, TypeError, AssertionError)):
        ADVERSARIAL[name](np.zeros(4, np.float32), np.zeros(shape, np.float32))


@EACH
def test_signed_losses_are_those_whose_best_logit_has_a_sign(name):
    """Where the discriminator is at rest when real and fake look alike is the threshold: zero, or nowhere."""
    slope = jax.grad(lambda logit: ADVERSARIAL[name](logit[None], logit[None])[1].sum())
    at_rest = abs(float(slope(np.float32(0)))) < 1e-6 < abs(float(slope(np.float32(-1.5))))
    assert at_rest == (name in SIGNED)


@EACH
def test_paired_losses_are_those_whose_generator_sees_real_logits(name):
    slope = jax.grad(lambda real: ADVERSARIAL[name](real, np.zeros(1, np.float32))[0].sum())(
        np.full(1, 0.3, np.float32)
    )
    assert (slope != 0).any() == (name in PAIRED)
