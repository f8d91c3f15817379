"""The diffusion method, tiny: losses, averaged weights, knobs and refused settings."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small_unet import shrunk
from tiny import full, open_run
from typed import sections_of

from configs import ddpm
from productgen.config import UserError
from productgen.core.rng import sample_keys, stream
from productgen.methods import Evaluable, Generates, Problem
from productgen.methods.diffusion import FAMILY, make
from productgen.methods.models.unet import UNetModel

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
    """The method, with fields such as method__eta changed, and with a smaller network."""
    return shrunk(make(sections_of(FAMILY, changed(**changes)), Problem(resolution, labels, BATCH, accumulate, 100)))


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    label = np.stack([rng.integers(-1, n, BATCH) for n in LABELS], 1)
    return {'image': rng.integers(0, 256, (BATCH, *RESOLUTION, 3), np.uint8), 'label': label.astype(np.int32)}


@functools.cache
def start():
    return jax.jit(tiny().init)(stream(KEY, 'init'), batch_of(), {})


@functools.cache
def compiled(accumulate=1):
    return jax.jit(tiny(accumulate=accumulate).update)


@functools.cache
def stepped(accumulate=1):
    return compiled(accumulate)(start(), batch_of(), KEY)


@jax.jit
def evaluated(state, batch):
    return tiny().evaluate(state, batch, KEY)['loss']


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


def stirred(params):
    """Weights without the zeros at which layers begin, which hide what is dropped before them."""
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    return structure.unflatten([x + 0.2 * rng.normal(size=x.shape).astype(np.float32) for x in leaves])


def test_the_loss_is_that_of_the_denoiser_in_training():
    method, state, rng = tiny(), start(), jax.random.key(3)
    state = state.replace(nets={'unet': state.nets['unet'].replace(params=stirred(state.nets['unet'].params))})
    _, metrics = compiled()(state, batch_of(1), rng)
    x0, keys = np.float32(batch_of(1)['image'] / 127.5 - 1), sample_keys(rng, jnp.arange(BATCH))
    losses = lambda params, train: method.denoiser.losses(params, x0, batch_of(1)['label'], keys, train=train)
    values = jax.jit(lambda params: [losses(params, train) for train in (True, False)])(state.nets['unet'].params)
    for train, expected in zip((True, False), values, strict=True):
        assert np.isclose(metrics['loss'].value, np.mean(expected), rtol=1e-4) == train


def test_pictures_and_figures_come_from_the_averaged_weights():
    method, state = tiny(), stepped()[0]
    assert method.denoiser.bounded
    batch = batch_of(1) | {'seed': np.arange(3, 3 + BATCH, dtype=np.int32)}
    x0, keys, knobs = np.float32(batch['image'] / 127.5 - 1), sample_keys(KEY, batch['seed']), {'denoising_steps': 3}
    generated = jax.jit(lambda state: method.generate(state, batch, KEY, knobs))(state)
    loss = evaluated(state, batch)

    @jax.jit
    def expected(params):
        image = method.denoiser.draw(params, (*RESOLUTION, 3), batch['label'], keys, knobs)
        return image, method.denoiser.evaluate(params, x0, batch['label'], keys)

    for part in ('ema', 'params'):
        image, figure = expected(getattr(state.nets['unet'], part))
        assert np.allclose(generated, image, atol=1e-5) == (part == 'ema')
        assert np.allclose(loss, figure, rtol=1e-5) == (part == 'ema')


def test_frozen_weights_are_kept_in_the_state():
    frozen = {'net': {'w': np.ones(3, np.float32)}}
    state = jax.eval_shape(tiny().init, KEY, batch_of(), frozen)
    after, _ = jax.eval_shape(tiny().update, state, batch_of(), KEY)
    assert state.frozen['net']['w'].shape == after.frozen['net']['w'].shape == (3,)


def test_figures_of_held_out_pictures_depend_on_their_own_row():
    method = tiny()
    assert isinstance(method, Evaluable) and isinstance(method, Generates)
    state, batch = stepped()[0], batch_of(1) | {'seed': np.arange(BATCH, dtype=np.int32)}
    loss = np.asarray(evaluated(state, batch))
    assert loss.shape == (BATCH,) and np.isfinite(loss).all() and len(set(loss)) == BATCH
    again = evaluated(state, {name: x[::-1] for name, x in batch.items()})
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
