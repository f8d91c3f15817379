"""Adversarial losses against their formulas in NumPy, in float64."""

import jax
import numpy as np
import pytest

from productgen.losses.adversarial import ADVERSARIAL

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

PLAYERS = ('generator', 'discriminator')
EACH = pytest.mark.parametrize('name', sorted(ADVERSARIAL))


def test_every_loss_has_its_formula_here():
    assert set(FORMULAS) == set(AT_ZERO) == set(ADVERSARIAL)


@EACH
def test_it_is_the_formula(name, x64):
    real, fake = np.random.default_rng(0).normal(size=(2, 100)) * 4
    for player, formula in zip(PLAYERS, FORMULAS[name], strict=True):
        value = getattr(ADVERSARIAL[name], player)(real, fake)
        assert value.shape == (100,)
        np.testing.assert_allclose(value, formula(real, fake), rtol=1e-10)


@EACH
def test_it_has_the_known_value_at_zero(name):
    for player, expected in zip(PLAYERS, AT_ZERO[name], strict=True):
        value = getattr(ADVERSARIAL[name], player)(np.zeros(3), np.zeros(3))
        np.testing.assert_allclose(value, np.full(3, expected), rtol=1e-6)


@EACH
def test_values_and_gradients_stay_finite_at_extreme_logits(name):
    real, fake = np.float32([[-1e4, 1e4, -1e4, 1e4], [-1e4, -1e4, 1e4, 1e4]])
    for player in PLAYERS:
        total = lambda real, fake, player=player: getattr(ADVERSARIAL[name], player)(real, fake).sum()
        value, grads = jax.value_and_grad(total, (0, 1))(real, fake)
        assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)


@EACH
def test_the_players_pull_fake_logits_in_opposite_directions_and_the_discriminator_raises_real_ones(name):
    logit = np.full(1, 0.2, np.float32)  # not 0, where least squares has its target for fake images
    grad = lambda player, argument: float(jax.grad(lambda *logits: player(*logits).sum(), argument)(logit, logit)[0])
    loss = ADVERSARIAL[name]
    assert grad(loss.generator, 1) < 0 < grad(loss.discriminator, 1) and grad(loss.discriminator, 0) < 0


@EACH
@pytest.mark.parametrize('player', PLAYERS)
@pytest.mark.parametrize('shape', [(3,), (4, 1), ()])
def test_logits_of_other_shapes_are_refused(name, player, shape):
    with pytest.raises(ValueError, match=r'logits must both be \[B\], got \(4,\) and'):
        getattr(ADVERSARIAL[name], player)(np.zeros(4, np.float32), np.zeros(shape, np.float32))


@EACH
def test_signed_losses_are_those_whose_best_logit_has_a_sign(name):
    """The threshold is where the discriminator is at rest when real and fake logits are equal: zero, or nowhere."""
    slope = jax.grad(lambda logit: ADVERSARIAL[name].discriminator(logit[None], logit[None]).sum())
    at_rest = abs(float(slope(np.float32(0)))) < 1e-6 < abs(float(slope(np.float32(-1.5))))
    assert at_rest == ADVERSARIAL[name].signed


@EACH
def test_paired_losses_are_those_whose_generator_sees_real_logits(name):
    value = lambda real: ADVERSARIAL[name].generator(real, np.zeros(1, np.float32)).sum()
    slope = jax.grad(value)(np.full(1, 0.3, np.float32))
    assert (slope != 0).any() == ADVERSARIAL[name].paired
