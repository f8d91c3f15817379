"""The denoiser: its loss against the formula, its samplers with a network whose output is known."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.core.rng import sample_keys
from productgen.losses import diffusion as gauss
from productgen.methods.parts.denoiser import Denoiser, DenoiserConfig

LABELS = (3, 2)
KEY = jax.random.key(0)


class Known(nn.Module):
    """Replaces the U-Net: the best prediction of epsilon or v for data N(m, d^2), m moved by the label."""

    prediction: str
    d: float = 0.3

    def __call__(self, x, time, label=None, keys=None, *, train=False):
        log_bar = gauss.log_alpha_bar(gauss.SCHEDULES['cosine'](200))[time][:, None, None, None]
        signal, noise = gauss.signal_noise(log_bar)
        m = 0.2 if label is None else (0.4 * label[:, 0] - 0.1)[:, None, None, None]
        x0 = m + signal * self.d**2 / (signal**2 * self.d**2 + noise**2) * (x - signal * m)
        epsilon = (x - signal * x0) / noise
        return epsilon if self.prediction == 'epsilon' else signal * epsilon - noise * x0


def known(prediction='v', labels=(), bounded=False, **changes):
    config = DenoiserConfig(steps=200, prediction=prediction, **{'label_dropout': 0.5} | changes)
    return Denoiser(config, Known(prediction), labels, bounded)


@functools.cache
def sampler(denoiser, **constant):
    """What draws samples, compiled, with knobs that are part of the program."""
    return jax.jit(lambda keys, label, knobs: denoiser.draw({}, (4, 4, 1), label, keys, constant | knobs))


def drawn(denoiser, count=200, steps=200, guidance=1.0):
    """Samples; guidance is part of the program where it is a number, an argument of it where it is an array."""
    label, keys = np.zeros((count, 1 if denoiser.labels else 0), np.int32), sample_keys(KEY, np.arange(count))
    if isinstance(guidance, float):
        return np.asarray(sampler(denoiser, denoising_steps=steps, guidance=guidance)(keys, label, {}))
    return np.asarray(sampler(denoiser, denoising_steps=steps)(keys, label, {'guidance': guidance}))


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'prediction': 'epsilon'},
        {'eta': 1.0},
        {'sampler': 'ddpm'},
        {'eta': 0.5},
    ],
    ids=str,
)
def test_samplers_reach_the_distribution_of_the_data(changes):
    images = drawn(known(**changes))
    assert abs(images.mean() - 0.2) < 0.03
    assert abs(images.std() - 0.3) < 0.03
    assert abs(images.std(0).mean() - 0.3) < 0.03 and abs(images.std((1, 2)).mean() - 0.3) < 0.04


def test_predictions_of_the_data_are_clipped_where_they_have_bounds():
    assert np.abs(drawn(known())).max() > 1
    for sampler in ('ddim', 'ddpm'):  # neither adds noise in the last step
        assert np.abs(drawn(known(bounded=True, sampler=sampler))).max() <= 1 + 1e-6


def test_guidance_goes_from_the_unconditional_picture_through_the_conditional_one_and_beyond():
    """Of two Gaussians of one width, guidance gives a third: its mean moves by w from one mean to the other."""
    for w in (0.0, 1.0, 2.0):
        images = drawn(known(labels=(2,)), guidance=w)
        assert abs(images.mean() - (-0.1 + 0.4 * w)) < 0.03, w
        assert abs(images.std() - 0.3) < 0.03, w


def test_without_guidance_the_net_is_evaluated_once_a_step():
    def largest(guidance):
        label = np.zeros((3, 2), np.float32)
        predict = lambda x: known(labels=(2,))._predict({}, x, jnp.ones(3, jnp.int32), label, guidance)
        shapes = jax.make_jaxpr(predict)(np.zeros((3, 4, 4, 1)))
        return max(v.aval.shape[0] for e in shapes.eqns for v in e.outvars if len(v.aval.shape) == 4)

    assert (largest(1.0), largest(3.0), largest(np.ones(3, np.float32))) == (3, 6, 6)


@pytest.mark.parametrize('changes', [{}, {'sampler': 'ddpm'}, {'eta': 0.5}], ids=str)
def test_guidance_is_the_same_as_a_constant_and_as_an_argument(changes):
    denoiser = known(labels=(2,), **changes)
    for w in (0.0, 2.0):
        constant = drawn(denoiser, guidance=w, count=4, steps=20)
        np.testing.assert_allclose(drawn(denoiser, guidance=np.full(4, w, np.float32), count=4, steps=20), constant)
    plain = drawn(denoiser, guidance=1.0, count=4, steps=20)
    np.testing.assert_allclose(drawn(denoiser, guidance=np.ones(4, np.float32), count=4, steps=20), plain, atol=1e-5)


def test_each_picture_has_its_own_guidance():
    denoiser, scale = known(labels=(2,)), np.float32([0.0, 1.0, 2.0, 5.0])
    together = drawn(denoiser, guidance=scale, count=4, steps=20)
    for i, w in enumerate(scale):
        np.testing.assert_allclose(together[i], drawn(denoiser, guidance=float(w), count=4, steps=20)[i], atol=1e-5)
    assert len(np.unique(together.mean((1, 2, 3)).round(2))) == 4


def test_without_labels_guidance_changes_nothing():
    denoiser = known()
    np.testing.assert_array_equal(drawn(denoiser, guidance=3.0, count=4), drawn(denoiser, count=4))


@pytest.mark.parametrize('count', [1, 2, 5, 10, 200])
def test_the_network_is_evaluated_once_a_denoising_step_at_times_spread_evenly(count):
    seen = []

    class Hear(nn.Module):
        @nn.compact
        def __call__(self, x, time, label=None, keys=None, *, train=False):
            jax.debug.callback(lambda time: seen.append(int(time)), time[0], ordered=True)
            return jnp.zeros_like(x)

    drawn(dataclasses.replace(known(), unet=Hear()), count=2, steps=count)
    jax.effects_barrier()
    assert seen == [round(200 * (count - i) / count) for i in range(count)]


@pytest.mark.parametrize('prediction, limit', [('v', 0.0), ('epsilon', 0.0), ('v', 5.0)])
def test_loss_is_the_error_of_the_best_prediction(prediction, limit):
    """Var[x_0 | x_t] = d^2 (1 - a) / (a d^2 + 1 - a); of epsilon it is SNR, of v SNR + 1 times as much."""
    denoiser = known(prediction, min_snr=limit)
    draw = np.random.default_rng(0)
    x0 = np.float32(0.2 + 0.3 * draw.normal(size=(3000, 4, 4, 1)))
    span = (0.4, 0.4001)  # t = 81 of 200
    keys = sample_keys(KEY, jnp.arange(len(x0)))
    losses = jax.jit(lambda k: denoiser.losses({}, x0, np.zeros((len(x0), 0), np.int32), k, span=span))(keys)
    f = np.cos((np.asarray([81, 0]) / 200 + 0.008) / 1.008 * np.pi / 2) ** 2
    a = f[0] / f[1]
    snr = a / (1 - a)
    variance = 0.09 * (1 - a) / (a * 0.09 + 1 - a)
    weight = min(snr, limit) if limit else {'v': snr + 1, 'epsilon': snr}[prediction]
    assert losses.shape == (3000,)
    np.testing.assert_allclose(np.mean(losses), weight * variance, rtol=0.03)


def test_times_are_drawn_from_the_entire_range_or_a_span():
    """The output of the network is the time and the target is of known size, so the loss shows the times drawn."""

    class Tell(nn.Module):
        def __call__(self, x, time, label=None, keys=None, *, train=False):
            return jnp.broadcast_to(1e3 * time.astype(jnp.float32)[:, None, None, None], x.shape)

    denoiser = dataclasses.replace(known('epsilon'), unet=Tell())
    keys, x0 = sample_keys(KEY, jnp.arange(4000)), np.zeros((4000, 1, 1, 1), np.float32)
    losses = jax.jit(lambda span: denoiser.losses({}, x0, np.zeros((4000, 0)), keys, span=span))
    times = lambda span: np.round(np.sqrt(losses(span)) / 1e3)
    whole = times((0.0, 1.0))
    assert (whole.min(), whole.max()) == (1, 200) and abs(whole.mean() - 100.5) < 4
    assert set(times((0.5, 0.52))) == {101, 102, 103, 104}


def test_a_picture_is_evaluated_at_one_time_in_each_eighth_of_the_range_without_dropout():
    """As above; the figure is the mean of squares of the times."""
    seen = []

    class Tell(nn.Module):
        @nn.compact
        def __call__(self, x, time, label=None, keys=None, *, train=False):
            assert not train
            jax.debug.callback(lambda time: seen.append(np.asarray(time)), time, ordered=True)
            return jnp.broadcast_to(1e3 * time.astype(jnp.float32)[:, None, None, None], x.shape)

    denoiser = dataclasses.replace(known('epsilon'), unet=Tell())
    keys, x0 = sample_keys(KEY, jnp.arange(100)), np.zeros((100, 1, 1, 1), np.float32)
    figures = denoiser.evaluate({}, x0, np.zeros((100, 0)), keys)
    jax.effects_barrier()
    times = np.stack(seen, 1)  # [100, 8]
    assert np.array_equal((times - 1) // 25, np.tile(np.arange(8), (100, 1)))
    assert not np.any(np.diff(times % 25).std(1) == 0), 'the same random numbers in each eighth'
    np.testing.assert_allclose(figures, np.mean((times * 1e3) ** 2, 1), rtol=1e-3)


def test_labels_are_dropped_for_a_fraction_of_the_training_pictures_all_attributes_at_once():
    seen, dropout = [], []

    class Hear(nn.Module):
        def __call__(self, x, time, label=None, keys=None, *, train=False):
            seen.append(np.asarray(label))
            dropout.append((train, keys is not None))
            return jnp.zeros_like(x)

    rate, count = 0.2, 4000
    denoiser = dataclasses.replace(known(labels=LABELS, label_dropout=rate), unet=Hear())
    keys, x0 = sample_keys(KEY, jnp.arange(count)), np.zeros((count, 1, 1, 1), np.float32)
    label = np.random.default_rng(0).integers(0, LABELS, (count, 2)).astype(np.int32)
    for train in (True, False):
        denoiser.losses({}, x0, label, keys, train=train)
    assert dropout == [(True, True), (False, True)]  # that of activations
    trained, evaluated = (row.sum(1) for row in seen)
    assert set(trained) == {0, 2} and set(evaluated) == {2}
    assert np.array_equal(seen[0][trained == 2], seen[1][trained == 2])
    assert abs(np.mean(trained == 0) - rate) < 4 * np.sqrt(rate * (1 - rate) / count)
