"""pix2pix, CycleGAN and CUT: their objectives by hand, pools, jitter, sizes, devices, both directions."""

import dataclasses
import functools
import importlib
import json
import os
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import ROOT, evaluate, full, open_run, run_launch, train

from productgen.config import UserError
from productgen.core.optim import OptimConfig, learning_rate
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys
from productgen.core.sharding import jit_update, join_rows, put_batch, split_rows
from productgen.methods.cut import take
from productgen.methods.models.translation import Pix2PixModel, TranslationModel
from productgen.methods.parts.translator import Translator, jittered
from productgen.model.trained import Trained
from productgen.nets.cyclegan import ResNet
from productgen.nets.pix2pix import UNet

TINY = {
    'data.resolution': '16',
    'data.catalog_items': 40,
    'data.validation': 0.3,
    'model.width': 4,
    'model.discriminator_width': 4,
    'model.discriminator_layers': 1,
    'train.batch_size': 4,
    'train.duration': '4steps',
    'train.log_every': '2steps',
    'train.sample_every': '4steps',
    'train.checkpoint_every': '2steps',
    'train.grid_columns': 2,
    'train.grid_rows': 2,
    'eval.features': '',
}
# Environment of a program on two emulated devices.
TWO = {
    'PYTHONPATH': str(ROOT),
    'XLA_FLAGS': os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=2',
}
MORE = {
    'pix2pix': {},
    'cyclegan': {'model.blocks': 1, 'method.pool': 6},
    'cut': {'model.blocks': 1, 'model.features': 4},
}


def tiny(name, **fields):
    fields = {field.replace('__', '.'): value for field, value in fields.items()}
    return full(importlib.import_module(f'configs.{name}').get_config('quick'), **TINY | MORE[name] | fields)


@functools.cache
def opened(name, **fields):
    return open_run(tiny(name, **fields), devices=1)


@functools.cache
def start(name, **fields):
    """A method, its state at step 0 and a batch, uint8."""
    run = opened(name, **fields)
    return run.method, run.initial_state(), run.batches()[0]


@functools.cache
def program(name, **fields):
    """That of training, which is compiled once for both."""
    run = opened(name, **fields)
    return jit_update(run.method.update, run.mesh)


def updated(name, state, batch, **fields):
    kept = jax.tree.map(jnp.copy, state)  # the program takes what it is given
    return program(name, **fields)(kept, put_batch(opened(name, **fields).mesh, batch), jax.random.key(3))


# -------------------------------------------------------------------------------------------------- objectives by hand


def logits(critic, net, image, condition=None):
    return critic.network.apply({'params': net.params, 'stats': net.stats}, image, condition, train=True).logit


def test_the_losses_of_pix2pix():
    fields = {'model__norm': 'instance'}
    method, state, batch = start('pix2pix', **fields)
    new, metrics = updated('pix2pix', state, batch, **fields)
    given, target = to_float(batch['input']), to_float(batch['target'])

    @jax.jit
    def judged(nets, later, given, target):
        made, _ = method.generator.train(nets['generator'].params, {}, given, None)
        pairs = (nets, target), (nets, made), (later, made)
        return made, [logits(method.critic, nets['discriminator'], x, given) for nets, x in pairs]

    made, (real, fake, fooled) = jax.device_get(judged(state.nets, new.nets, given, target))
    softplus = lambda x: np.logaddexp(0, np.float64(x))
    expected = 0.5 * (softplus(-real).mean() + softplus(fake).mean())
    assert float(metrics['loss/discriminator'].value) == pytest.approx(expected, rel=1e-4)
    # The generator plays against the discriminator after its step.
    assert float(metrics['loss/generator'].value) == pytest.approx(softplus(-fooled).mean(), rel=1e-4)
    assert float(metrics['loss/l1'].value) == pytest.approx(np.abs(made - target).mean(), rel=1e-4)


def test_the_losses_of_cyclegan():
    """In the first update, whose pools are not full: they show what was made."""
    method, state, batch = start('cyclegan')
    _, metrics = updated('cyclegan', state, batch)
    value = lambda name: float(metrics[name].value)

    @jax.jit
    def by_hand(nets, image):
        run = lambda side, x: method.generators[side].train(
            nets['forward' if side == 'target' else 'backward'].params, {}, x, None
        )[0]
        found = {}
        for side, other in (('target', 'input'), ('input', 'target')):
            made = run(side, image[other])
            judge = lambda x, side=side: logits(method.critics[side], nets[f'discriminator_{side}'], x)
            found[side] = judge(image[side]), judge(made), run(other, made), run(side, image[side])
        return found

    image = {side: np.asarray(to_float(batch[side])) for side in ('input', 'target')}
    found = jax.device_get(by_hand(state.nets, image))
    for side, other, name in (('target', 'input', 'forward'), ('input', 'target', 'backward')):
        real, fake, back, kept = map(np.float64, found[side])
        expected = 0.5 * (np.mean((real - 1) ** 2) + np.mean(fake**2))
        assert value(f'loss/discriminator_{side}') == pytest.approx(expected, rel=1e-4)
        assert value(f'loss/{name}') == pytest.approx(0.5 * np.mean((fake - 1) ** 2), rel=1e-4)
        assert value(f'loss/cycle_{other}') == pytest.approx(np.abs(back - image[other]).mean(), rel=1e-4)
        assert value(f'loss/identity_{side}') == pytest.approx(np.abs(kept - image[side]).mean(), rel=1e-4)


def test_the_losses_of_cut_with_all_patches():
    fields = {'method__patches': 10_000}
    method, state, batch = start('cut', **fields)
    _, metrics = updated('cut', state, batch, **fields)
    params = {name: state.nets[name].params for name in ('generator', 'projector')}

    @jax.jit
    def projected(params, image):
        made, _ = method.generator.train(params['generator'], {}, image, None)
        flat = lambda maps: [x.reshape(len(x), -1, x.shape[-1]) for x in maps]
        maps = [flat(method._maps(params['generator'], {}, x)) for x in (made, image)]
        return [method.projector.apply({'params': params['projector']}, x) for x in maps]

    for side, name in (('input', 'loss/nce'), ('target', 'loss/nce_target')):
        vectors = projected(params, to_float(batch[side]))
        assert [x.shape[1] for x in vectors[0]] == [256, 64, 16, 16]
        losses = []
        for q, k in zip(*vectors, strict=True):
            q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
            scores = np.einsum('bsd,btd->bst', q, k) / 0.07
            peak = scores.max(-1, keepdims=True)
            losses.append(np.mean(np.log(np.exp(scores - peak).sum(-1)) + peak[..., 0] - np.einsum('bss->bs', scores)))
        assert float(metrics[name].value) == pytest.approx(np.mean(losses), rel=1e-3)


def test_places_of_patches_are_different_and_the_samples_own():
    image = jnp.arange(2 * 30, dtype=jnp.float32).reshape(2, 5, 6, 1)
    keys = jax.random.split(jax.random.key(0), 2)
    found = np.asarray(take(image, keys, 8))[..., 0]
    assert found.shape == (2, 8) and all(len(set(row)) == 8 for row in found)
    assert (found[0] < 30).all() and (found[1] >= 30).all() and set(found[0]) != set(found[1] - 30)
    assert np.array_equal(take(image[1:], keys[1:], 8)[0, :, 0], found[1])
    assert take(image, keys, 99).shape == (2, 30, 1)


# ---------------------------------------------------------------------------------------------------------------- pool


def test_discriminators_are_shown_pictures_of_the_pool():
    method, state, batch = start('cyclegan')
    for _ in range(3):  # 12 pictures through pools of 6
        state, _ = updated('cyclegan', state, batch)
    for side in ('input', 'target'):
        held = state.extra[side]['pool']
        assert int(held['count']) == 6 and held['pictures'].dtype == jnp.float32
        assert len(np.unique(np.asarray(held['pictures']).reshape(6, -1), axis=0)) == 6


# --------------------------------------------------------------------------------------------- sizes, jitter, schedules


TRANSLATORS = {
    'unet': Translator(UNet(3, 2, norm='instance'), 8, 8),
    'resnet': Translator(ResNet(1, 2), 4, 8),
    'antialias': Translator(ResNet(1, 2, antialias=True), 4, 8),
}


@functools.cache
def weights(name):
    """Weights of a translator, which are the same for pictures of all sizes."""
    return jax.jit(TRANSLATORS[name].init)(jax.random.key(1), jnp.zeros((2, 8, 8, 3)))['params']


@pytest.mark.parametrize('name', TRANSLATORS)
@pytest.mark.parametrize('size', [(8, 16), (11, 17), (1, 3), (25, 8)])
def test_pictures_of_any_size(name, size):
    translator = TRANSLATORS[name]
    image = np.random.default_rng(0).uniform(size=(2, *size, 3)).astype(np.float32)
    run = jax.jit(lambda params, image, keys: (translator.train(params, {}, image, keys)[0], translator.padded(image)))
    made, padded = run(weights(name), image, sample_keys(jax.random.key(0), jnp.arange(2)))
    assert made.shape == image.shape and np.isfinite(made).all()
    assert all(side % translator.unit == 0 for side in padded.shape[1:3])
    assert np.array_equal(padded[:, : size[0], : size[1]], image)


def test_jitter_moves_both_pictures_of_a_row_alike():
    image = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (6, 12, 16, 3)), jnp.float32)
    keys = sample_keys(jax.random.key(0), jnp.arange(6))
    jitter = jax.jit(jittered, static_argnums=(2, 3))
    first, second = jitter([image, -image], keys, 1.25, True)
    np.testing.assert_allclose(first, -second, atol=1e-6)
    assert first.shape == image.shape and not np.array_equal(first, image)
    assert jittered([image], keys, 1.0, False)[0] is image
    (mirrored,) = jitter([image], keys, 1.0, True)
    turned = [np.array_equal(a, b[:, ::-1]) for a, b in zip(mirrored, image, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(mirrored, image, strict=True)]
    assert any(turned) and any(same) and all(a != b for a, b in zip(turned, same, strict=True))
    (alone,) = jitter([image[2:3]], keys[2:3], 1.25, True)
    np.testing.assert_allclose(alone[0], first[2], atol=1e-6)


def test_parts_of_a_batch_are_joined_in_order():
    x = jnp.arange(24).reshape(12, 2)
    for count, devices in ((1, 1), (3, 2), (2, 3), (6, 1)):
        assert np.array_equal(join_rows(split_rows(x, count, devices), devices), x)


def test_the_published_schedule_is_constant_and_then_falls_to_zero():
    schedule = learning_rate(OptimConfig(learning_rate=2.0, schedule='linear', hold=0.5), 100)
    assert [float(schedule(step)) for step in (0, 49, 50, 75, 100)] == pytest.approx([2.0, 2.0, 2.0, 1.0, 0.0])
    late = learning_rate(OptimConfig(learning_rate=2.0, schedule='linear', hold=0.5, warmup=0.2), 100)
    assert [float(late(step)) for step in (0, 10, 20, 70, 85, 100)] == pytest.approx([0, 1, 2, 2, 1, 0])
    with pytest.raises(UserError, match=r'optim\.\*\.hold: 0\.9 is not a fraction'):
        learning_rate(OptimConfig(hold=0.9, warmup=0.1), 100)


def test_sizes_and_channels_that_do_not_fit_are_refused():
    for name, fields, message in (
        ('pix2pix', {'model__discriminator_layers': 3}, r'model\.discriminator_layers: .*at least 24'),
        ('pix2pix', {'model__depth': 7}, r'model\.depth: pictures of 16x16 are too small for 7'),
        (
            'cut',
            {'data__input': 'mask', 'data__target': 'image'},
            r'data\.input: inputs of 1 and targets of 3 channels',
        ),
        (
            'cut',
            {'method__flip': True, 'data__resolution': '18x16'},
            r'method\.flip: it needs pictures whose sides are',
        ),
        ('pix2pix', {'method__enlarge': 0.5}, r'method\.enlarge: 0\.5 is not from 1 to 4'),
    ):
        with pytest.raises(UserError, match=message):
            open_run(tiny(name, **fields))


@pytest.mark.parametrize(
    'size, depth', [((256, 256), 8), ((128, 128), 7), ((512, 512), 8), ((96, 128), 6), ((16, 40), 4)]
)
def test_the_depth_of_the_u_net_follows_the_resolution(size, depth):
    problem = dataclasses.replace(opened('pix2pix').method.problem, resolution=size)
    assert Pix2PixModel().translator(problem, 3).network.depth == depth


def test_a_batch_of_one_keeps_to_its_own_statistics():
    problem = opened('pix2pix').method.problem
    kind = lambda model, batch: model.translator(dataclasses.replace(problem, batch_size=batch), 3).network.norm
    assert kind(Pix2PixModel(), 1) == 'own' and kind(Pix2PixModel(), 2) == 'batch'
    assert kind(TranslationModel(), 1) == kind(TranslationModel(), 2) == 'instance'


# ----------------------------------------------------------------------------------------------------- accumulation


JITTER = {'method__enlarge': 1.25, 'method__mirror': True}


@pytest.mark.parametrize(
    'name, fields',
    [
        ('cyclegan', {}),
        pytest.param('cyclegan', JITTER, marks=pytest.mark.slow),
        pytest.param('cut', JITTER, marks=pytest.mark.slow),
    ],
    ids=['cyclegan', 'cyclegan_jitter', 'cut'],
)
def test_a_batch_in_parts_gives_what_it_gives_whole(name, fields):
    _, state, batch = start(name, **fields)
    whole, _ = updated(name, state, batch, **fields)
    parts, _ = updated(name, state, batch, train__accumulate=2, **fields)
    for a, b in zip(jax.tree.leaves(whole.extra), jax.tree.leaves(parts.extra), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for net in whole.nets:
        moved = jax.tree.leaves(jax.tree.map(lambda a, b: a - b, whole.nets[net].params, state.nets[net].params))
        apart = jax.tree.leaves(jax.tree.map(lambda a, b: a - b, whole.nets[net].params, parts.nets[net].params))
        norm = lambda leaves: np.sqrt(sum(float(np.square(x).sum()) for x in leaves))
        assert norm(apart) < 0.02 * norm(moved), net


# ------------------------------------------------------------------------------------- runs: resume, sheets, evaluation


@pytest.fixture(scope='module')
def cyclegan(tmp_path_factory):
    """Workdir of a finished run with two catalog columns as sets without pairs."""
    workdir = tmp_path_factory.mktemp('cyclegan') / 'run'
    train(tiny('cyclegan'), workdir)
    return workdir


def test_a_resumed_run_is_that_without_interruption(cyclegan, tmp_path):
    """From the checkpoint in its middle."""
    shutil.rmtree(shutil.copytree(cyclegan, tmp_path / 'run') / 'checkpoints' / '4')
    train(tiny('cyclegan'), tmp_path / 'run')
    assert 'Resuming at step 2' in (tmp_path / 'run' / 'log.txt').read_text()
    states = [Trained.open(workdir).state for workdir in (cyclegan, tmp_path / 'run')]
    assert int(states[0].step) == 4 and states[0].extra['target']['pool']['count'] == 6
    for a, b in zip(*(jax.tree.leaves((s.nets, s.extra)) for s in states), strict=True):
        assert np.array_equal(a, b)


def test_both_directions_translate(cyclegan):
    trained = Trained.open(cyclegan)
    images = np.random.default_rng(0).integers(0, 256, (3, 13, 18, 3), np.uint8)
    there, back = trained.translate(images), trained.translate(images, reverse=True)
    assert there.shape == back.shape == images.shape and not np.array_equal(there, back)
    assert np.array_equal(trained.translate(images[1:2], reverse=True), back[1:2])


def test_evaluation_without_pairs_measures_both_directions(cyclegan, tmp_path):
    page = evaluate(tiny('cyclegan', eval__features='small', eval__out=str(tmp_path)), cyclegan)
    report = json.loads(page.with_suffix('.json').read_text())
    columns = ['measured', 'identity', 'real', 'reverse', 'reverse_identity', 'reverse_real']
    assert list(report['figures']) == columns
    assert all(x['kernel_distance'] is not None and x['frechet_distance'] >= 0 for x in report['figures'].values())
    assert len({x['kernel_distance'] for x in report['figures'].values()}) == 6
    assert report['protocol']['unpaired']['target'] == 'catalog:studio'
    text = page.read_text()
    assert 'Held-out inputs and their translations' in text and 'reverse: translations' in text


def test_evaluation_with_pairs_measures_both_directions(tmp_path):
    config = tiny('cyclegan', data__input='image', data__target='studio')
    train(config, tmp_path / 'run')
    report = json.loads(evaluate(config, tmp_path / 'run').with_suffix('.json').read_text())
    assert list(report['figures']) == ['measured', 'input', 'reverse']
    assert report['figures']['reverse']['psnr'] != report['figures']['measured']['psnr']


@pytest.mark.slow
def test_several_devices_give_what_one_gives(cyclegan, tmp_path):
    where = str(tmp_path / 'many')
    script = (
        'import pathlib, sys; sys.path.insert(0, "tests")\n'
        'from methods.test_translation import tiny\n'
        'from tiny import train\n'
        'config = tiny("cyclegan", train__batch_size=8, train__duration="1steps")\n'
        f'train(config, pathlib.Path({where!r}))'
    )
    done = run_launch([sys.executable, '-c', script], env=TWO)
    assert not done.returncode, done.stderr
    train(tiny('cyclegan', train__batch_size=8, train__duration='1steps'), tmp_path / 'one')
    one, many = (Trained.open(tmp_path / name).state for name in ('one', 'many'))
    for a, b in zip(jax.tree.leaves(one.extra), jax.tree.leaves(many.extra), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    for name, net in one.nets.items():
        for a, b in zip(jax.tree.leaves(net.params), jax.tree.leaves(many.nets[name].params), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-3)  # Adam's first steps are the signs of the gradients
