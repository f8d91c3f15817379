"""Diffusion of pictures: its loss against the formula, its samplers with a network whose output is known."""

import copy
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny import full, open_run
from typed import sections_of

from configs import ddpm
from productgen.config import UserError
from productgen.core.rng import sample_keys, stream
from productgen.losses import diffusion as gauss
from productgen.methods import Evaluable, Generates, Problem
from productgen.methods.diffusion import FAMILY, DiffusionConfig, make
from productgen.methods.models.unet import UNetModel
from productgen.methods.parts.denoiser import Denoiser

RESOLUTION, LABELS, BATCH = (4, 8), (3, 2), 8
KEY = jax.random.key(0)
CONFIG = {
    'method': {
        'name': 'diffusion',
        'schedule': 'cosine',
        'steps': 50,
        'prediction': 'v',
        'min_snr': 0.0,
        'label_dropout': 0.5,
        'sampler': 'ddim',
        'eta': 0.0,
        'ema_kimg': 0.05,
        'ema_rampup': 0.0,
    },
    'model': {
        'patch': 1,
        'channels': 4,
        'multipliers': '1',
        'blocks': 1,
        'attention': '',
        'heads': 1,
        'dropout': 0.3,
    },
    # An epsilon this large makes Adam's step continuous in the gradient, so that steps can be compared.
    'optim': {'unet': {'name': 'adam', 'learning_rate': 0.1, 'eps': 0.1}},
}


def changed(**changes):
    config = copy.deepcopy(CONFIG)
    for field, value in changes.items():
        section, name = field.split('__')
        config[section][name] = value
    return config


def tiny(labels=LABELS, accumulate=1, resolution=RESOLUTION, **changes):
    """The method, with fields such as method__eta changed."""
    return make(sections_of(FAMILY, changed(**changes)), Problem(resolution, labels, BATCH, accumulate, 100))


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    label = np.stack([rng.integers(-1, n, BATCH) for n in LABELS], 1)
    return {'image': rng.integers(0, 256, (BATCH, *RESOLUTION, 3), np.uint8), 'label': label.astype(np.int32)}


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
    section = CONFIG['method'] | {'steps': 200, 'prediction': prediction} | changes
    return Denoiser(DiffusionConfig(**section), Known(prediction), labels, bounded)


def drawn(denoiser, label=None, count=200, steps=200, guidance=1.0):
    """Samples; guidance is part of the program where it is a number, an argument of it where it is an array."""
    label = np.zeros((count, 1 if denoiser.labels else 0), np.int32) if label is None else label
    keys, constant = sample_keys(KEY, jnp.arange(count)), {'denoising_steps': steps}
    given = {'guidance': guidance}
    if isinstance(guidance, float):
        constant, given = constant | given, {}
    draw = jax.jit(lambda keys, given: denoiser.draw({}, (4, 4, 1), label, keys, constant | given))
    return np.asarray(draw(keys, given))


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
    free, clipped = drawn(known()), drawn(known(bounded=True))
    assert np.abs(free).max() > 1
    assert np.abs(clipped).max() <= 1 + 1e-6


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
        constant = drawn(denoiser, guidance=w, count=8, steps=20)
        np.testing.assert_allclose(drawn(denoiser, guidance=np.full(8, w, np.float32), count=8, steps=20), constant)
    plain = drawn(denoiser, guidance=1.0, count=8, steps=20)
    np.testing.assert_allclose(drawn(denoiser, guidance=np.ones(8, np.float32), count=8, steps=20), plain, atol=1e-5)


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
            return jnp.broadcast_to(time[:, None, None, None] * 1e3, x.shape)

    denoiser = dataclasses.replace(known('epsilon'), unet=Tell())
    keys, x0 = sample_keys(KEY, jnp.arange(4000)), np.zeros((4000, 1, 1, 1), np.float32)
    times = lambda span: np.round(np.sqrt(denoiser.losses({}, x0, np.zeros((4000, 0)), keys, span=span)) / 1e3)
    whole = times((0.0, 1.0))
    assert (whole.min(), whole.max()) == (1, 200) and abs(whole.mean() - 100.5) < 4
    assert set(times((0.5, 0.52))) == {101, 102, 103, 104}


def test_labels_are_dropped_for_a_fraction_of_the_training_pictures_all_attributes_at_once():
    seen = []

    class Hear(nn.Module):
        def __call__(self, x, time, label=None, keys=None, *, train=False):
            seen.append(np.asarray(label))
            return jnp.zeros_like(x)

    rate, count = 0.2, 4000
    denoiser = dataclasses.replace(known(labels=LABELS, label_dropout=rate), unet=Hear())
    keys, x0 = sample_keys(KEY, jnp.arange(count)), np.zeros((count, 1, 1, 1), np.float32)
    label = np.random.default_rng(0).integers(0, LABELS, (count, 2)).astype(np.int32)
    for train in (True, False):
        denoiser.losses({}, x0, label, keys, train=train)
    trained, evaluated = (row.sum(1) for row in seen)
    assert set(trained) == {0, 2} and set(evaluated) == {2}
    assert np.array_equal(seen[0][trained == 2], seen[1][trained == 2])
    assert abs(np.mean(trained == 0) - rate) < 4 * np.sqrt(rate * (1 - rate) / count)


@functools.cache
def start():
    return jax.jit(tiny().init)(stream(KEY, 'init'), batch_of(), {})


@functools.cache
def stepped(accumulate=1):
    return jax.jit(tiny(accumulate=accumulate).update)(start(), batch_of(), KEY)


def test_a_batch_in_parts_gives_the_same_update():
    (one, a), (two, b) = stepped(), stepped(2)
    np.testing.assert_allclose(a['loss'].value, b['loss'].value, rtol=1e-4)
    assert all(metric.weight == 1 for metric in a.values())
    for x, y in zip(jax.tree.leaves(one.nets['unet'].params), jax.tree.leaves(two.nets['unet'].params), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)


def test_first_loss_is_the_targets_own_size():
    """The network starts with zeros, and E |v|^2 = a + (1 - a) E |x_0|^2 lies between 1 and that of the pictures."""
    image = batch_of()['image'] / 127.5 - 1
    assert 0.9 * np.mean(image**2) < float(stepped()[1]['loss'].value) < 1.2


def test_figures_of_held_out_pictures_depend_on_their_own_row():
    method = tiny()
    assert isinstance(method, Evaluable) and isinstance(method, Generates)
    state, batch = stepped()[0], batch_of(1) | {'seed': np.arange(BATCH, dtype=np.int32)}
    evaluate = jax.jit(method.evaluate)
    loss = np.asarray(evaluate(state, batch, KEY)['loss'])
    assert loss.shape == (BATCH,) and np.isfinite(loss).all() and len(set(loss)) == BATCH
    again = evaluate(state, {name: x[::-1] for name, x in batch.items()}, KEY)['loss']
    np.testing.assert_allclose(again[::-1], loss, rtol=1e-4)


@pytest.mark.parametrize(
    'field, value, message',
    [
        ('method__schedule', 'cosin', "method.schedule.*'cosine'"),
        ('method__prediction', 'x', 'method.prediction'),
        ('method__sampler', 'ddp', "method.sampler.*'ddpm'"),
        ('method__steps', 1, 'method.steps'),
        ('method__eta', 1.5, 'method.eta'),
        ('method__label_dropout', -0.1, 'method.label_dropout'),
        ('method__min_snr', -1.0, 'method.min_snr'),
        ('model__multipliers', '1,x', 'model.multipliers'),
        ('model__multipliers', '1,1,1,1', 'data.resolution: 8x4 .* 8x8'),
        ('model__attention', '2', 'model.attention: there is no level 2'),
        ('model__channels', 6, 'model.channels'),
        ('model__heads', 3, 'model.heads'),
        ('model__patch', 3, 'model.patch'),
        ('model__blocks', 0, 'model.blocks'),
        ('model__dropout', 1.0, 'model.dropout'),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_field(field, value, message):
    with pytest.raises(UserError, match=message):
        tiny(**{field: value})


def test_knobs_are_those_of_the_sampler():
    guidance, steps = tiny().knobs
    assert (guidance.name, guidance.default, guidance.low, guidance.static) == ('guidance', 1, 0, False)
    assert (steps.name, steps.default, steps.low, steps.high, steps.static) == ('denoising_steps', 50, 1, 50, True)
    assert tiny(method__steps=20).knobs[1].default == 20 and tiny(method__steps=1000).knobs[1].default == 50
    for value in (1.0, 0.0, 7.5):
        guidance.check(value, 'sample.guidance')
    with pytest.raises(UserError, match='sample.guidance: -1 is not from 0 to 100; 1 is no guidance'):
        guidance.check(-1, 'sample.guidance')
    with pytest.raises(UserError, match='sample.denoising_steps: 51.*method.steps=50'):
        steps.check(51, 'sample.denoising_steps')


def test_guidance_needs_label_dropout():
    guidance = tiny(method__label_dropout=0.0).knobs[0]
    guidance.check(1.0, 'sample.guidance')
    with pytest.raises(UserError, match='sample.guidance: 2.*method.label_dropout=0.1'):
        guidance.check(2.0, 'sample.guidance')
    tiny(labels=(), method__label_dropout=0.0).knobs[0].check(2.0, 'sample.guidance')


def test_knobs_that_are_missing_are_at_their_defaults():
    method, state = tiny(method__steps=20), stepped()[0]
    rows = {'seed': np.arange(2, dtype=np.int32), 'label': np.zeros((2, 2), np.int32)}
    make = lambda **knobs: jax.jit(lambda rows: method.generate(state, rows, KEY, knobs))(rows)
    plain = make()
    assert plain.shape == (2, *RESOLUTION, 3) and np.abs(plain).max() <= 1
    np.testing.assert_array_equal(make(guidance=1.0, denoising_steps=20), plain)
    assert not np.allclose(make(denoising_steps=10), plain, atol=1e-3)


@pytest.mark.parametrize('labels', ['none', 'auto'])
def test_automatic_labels_that_are_not_found_do_not_limit_guidance(tmp_path, labels):
    config = full(ddpm.get_config())
    config['data'] |= {'labels': labels, 'catalog_items': 64, 'resolution': '16'}
    config['method']['label_dropout'], config['sample']['guidance'] = 0.0, 2.0
    if labels == 'auto':
        with pytest.raises(UserError, match='sample.guidance'):
            open_run(config)
        for i in range(32):
            Image.new('RGB', (16, 16), (i, 0, 0)).save(tmp_path / f'{i}.png')
        config['data']['source'] = f'folder:{tmp_path}'
    run = open_run(config)
    assert not run.labels and run.config.sample.guidance == 2.0
    config['method']['steps'] = 1  # what cannot be used with or without labels is refused
    with pytest.raises(UserError, match='method.steps'):
        open_run(config)


def test_earlier_halvings_count_for_the_sizes_of_a_unet():
    model = UNetModel(1, 8, '1,2', 1, '', 1, 0.0)
    assert model.net((12, 8), 3, halvings=1).multipliers == (1, 2)
    with pytest.raises(UserError, match='6x12 .* nearest size that can is 8x12'):
        model.net((12, 6), 3, halvings=1)
