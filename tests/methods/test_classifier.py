"""Classifier and SimCLR: their losses, what they learn, and refused settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import full
from typed import sections_of

from configs import classifier as configs
from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, streams
from productgen.losses.classification import cross_entropy, nt_xent
from productgen.methods import METHODS, Classifies, Evaluable, Generates, Problem, Represents


def config_of(arg=None, **changes):
    config = full(configs.get_config(arg))
    config['model'] = {'width': 8, 'blocks': '1,1', 'dropout': 0.0}
    for field, value in changes.items():
        *path, name = field.split('__')
        section = config
        for part in path:
            section = section[part]
        section[name] = value
    return config


def method_of(arg=None, labels=(2,), batch_size=16, accumulate=1, **changes):
    config = config_of(arg, **changes)
    family = METHODS[config['method']['name']]
    return family.make(sections_of(family, config), Problem((8, 8), labels, batch_size, accumulate, 60))


def stripes(count, seed=0):
    """Pictures of horizontal (0) or vertical (1) stripes of a random colour and phase."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 2, (count, 1), np.int32)
    phase, colour = draw.integers(0, 4, count), draw.integers(40, 256, (count, 1, 1, 3))
    line = ((np.arange(8)[None] + phase[:, None]) // 2 % 2)[:, :, None, None]  # [N, 8, 1, 1]
    image = np.where(label[:, :, None, None] == 0, line, line.swapaxes(1, 2)) * colour
    return {'image': image.astype(np.uint8), 'label': label, 'seed': np.arange(count, dtype=np.int32)}


def trained(method, steps):
    update = jax.jit(method.update)
    state = jax.jit(method.init)(jax.random.key(0), stripes(16), {})
    for step in range(steps):
        state, metrics = update(state, stripes(16, step), jax.random.fold_in(jax.random.key(1), step))
    return state, metrics


def test_stripes_are_distinguished():
    method = method_of(method__augment__p='0', optim__classifier__learning_rate=3e-3)
    state, _ = trained(method, 40)
    figures = method.evaluate(state, stripes(64, 1000), jax.random.key(0))
    assert figures['error'].mean() <= 0.05 and figures['loss'].mean() < 0.4


def test_the_loss_is_the_smoothed_entropy_of_augmented_pictures():
    method, batch = method_of(method__augment__p='0.8'), stripes(16)
    state = jax.jit(method.init)(jax.random.key(0), batch, {})
    rng = jax.random.key(3)
    _, metrics = jax.jit(method.update)(state, batch, rng)
    keys = streams(sample_keys(rng, jnp.arange(16)), 'augment')
    image = jax.jit(method.augment)(to_float(batch['image']), 0.8, keys)
    assert not np.allclose(image, to_float(batch['image']))
    logits = method.net.apply({'params': state.nets['classifier'].params}, image)[1]
    np.testing.assert_allclose(metrics['loss'].value, cross_entropy(logits, batch['label'], 0.1).mean(), rtol=1e-4)


@pytest.mark.parametrize('arg, name', [(None, 'classifier'), ('simclr', 'encoder')])
def test_the_probability_of_augmentation_moves_with_the_step(arg, name):
    method, batch, rng = method_of(arg, method__augment__p='0->0.8'), stripes(16), jax.random.key(3)
    state, update = jax.jit(method.init)(jax.random.key(0), batch, {}), jax.jit(method.update)
    keys, params = sample_keys(rng, jnp.arange(16)), {'params': state.nets[name].params}

    @jax.jit
    def loss(p):
        augmented = lambda name: method.augment(to_float(batch['image']), p, streams(keys, name))
        if arg is None:
            return cross_entropy(method.net.apply(params, augmented('augment'))[1], batch['label'], 0.1).mean()
        first, second = (method.net.apply(params, augmented(name))[1] for name in ('first', 'second'))
        return nt_xent(first, second, 0.2).mean()

    for step, p in ((0, 0.0), (30, 0.4), (60, 0.8)):  # half a cosine over 60 updates
        _, metrics = update(state.replace(step=jnp.asarray(step, jnp.int32)), batch, rng)
        np.testing.assert_allclose(metrics['loss'].value, loss(p), rtol=1e-3)


def test_features_are_dropped_in_training_only():
    plain, dropped = (method_of(method__augment__p='0', model__dropout=p) for p in (0.0, 0.5))
    batch, rng = stripes(16), jax.random.key(3)
    state = jax.jit(plain.init)(jax.random.key(0), batch, {})
    loss = [jax.jit(method.update)(state, batch, rng)[1]['loss'].value for method in (plain, dropped)]
    assert abs(loss[0] - loss[1]) > 1e-3
    figures = [method.evaluate(state, batch, rng)['loss'] for method in (plain, dropped)]
    np.testing.assert_array_equal(*figures)


def test_errors_are_counted_over_known_attributes():
    method = method_of(labels=(2, 3))
    batch = stripes(4) | {'label': np.array([[0, 1], [1, -1], [-1, -1], [0, 0]], np.int32)}
    state = jax.jit(method.init)(jax.random.key(0), batch, {})
    answers = [np.argmax(x, -1) for x in method.classify(state, batch, jax.random.key(0))]
    wrong = np.stack(answers, 1) != batch['label']
    figures = method.evaluate(state, batch, jax.random.key(0))
    np.testing.assert_allclose(figures['error'], [wrong[0].mean(), wrong[1, 0], np.nan, wrong[3].mean()])
    assert list(np.isfinite(figures['loss'])) == [True, True, False, True]


def test_a_batch_in_parts_gives_what_the_whole_gives():
    batch, states = stripes(16), []
    for accumulate in (1, 4):
        method = method_of(accumulate=accumulate, optim__classifier__name='sgd')
        state = jax.jit(method.init)(jax.random.key(0), batch, {})
        states.append(jax.jit(method.update)(state, batch, jax.random.key(1))[0].nets['classifier'].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *states)


def test_contrast_is_between_two_views_of_each_picture():
    method, batch = method_of('simclr'), stripes(16)
    state, rng = jax.jit(method.init)(jax.random.key(0), batch, {}), jax.random.key(3)
    _, metrics = jax.jit(method.update)(state, batch, rng)
    keys = sample_keys(rng, jnp.arange(16))
    image, params = to_float(batch['image']), {'params': state.nets['encoder'].params}
    project = jax.jit(lambda keys: method.net.apply(params, method.augment(image, 0.8, keys))[1])
    views = [project(streams(keys, name)) for name in ('first', 'second')]
    np.testing.assert_allclose(metrics['loss'].value, nt_xent(*views, 0.2).mean(), rtol=1e-3)


def test_contrast_learns_to_distinguish_pictures_without_labels():
    method = method_of('simclr', labels=(), optim__encoder__learning_rate=3e-3)
    start, first = trained(method, 1)
    _, last = trained(method, 40)
    assert last['loss'].value < 0.9 * first['loss'].value
    assert method.represent(start, stripes(5), jax.random.key(0)).shape == (5, 16)


@pytest.mark.parametrize('arg, capabilities', [(None, {Classifies, Represents, Evaluable}), ('simclr', {Represents})])
def test_capabilities(arg, capabilities):
    method = method_of(arg)
    assert {c for c in (Classifies, Represents, Evaluable, Generates) if isinstance(method, c)} == capabilities
    assert method.in_one_part().problem.accumulate == 1


@pytest.mark.parametrize('arg, name', [(None, 'classifier'), ('simclr', 'encoder')])
def test_results_come_from_the_averaged_weights_and_pictures_as_they_are(arg, name):
    method = method_of(arg, optim__classifier__learning_rate=1e-2) if arg is None else method_of(arg)
    state, batch, key = trained(method, 3)[0], stripes(4), jax.random.key(0)
    features, outputs = method.net.apply({'params': state.nets[name].ema}, to_float(batch['image']))
    np.testing.assert_array_equal(method.represent(state, batch, key), features)
    current = method.net.apply({'params': state.nets[name].params}, to_float(batch['image']))[0]
    assert not np.allclose(current, features, rtol=1e-4)
    if arg is None:
        np.testing.assert_array_equal(method.classify(state, batch, key)[0], outputs[0])
        expected = cross_entropy(outputs, batch['label'])
        np.testing.assert_allclose(method.evaluate(state, batch, key)['loss'], expected, rtol=1e-5)


@pytest.mark.parametrize(
    'arg, labels, changes, message',
    [
        (None, (), {}, 'data.labels: a classifier needs labels'),
        (None, (2,), {'model__blocks': '1,x'}, 'model.blocks'),
        (None, (2,), {'model__blocks': '1,1,1,1,1'}, 'data.resolution'),
        (None, (2,), {'model__width': 2}, 'model.width'),
        (None, (2,), {'method__label_smoothing': 1.0}, 'method.label_smoothing'),
        (None, (2,), {'method__ema_kimg': -1.0}, 'method.ema_kimg'),
        (None, (2,), {'method__augment__target': 0.6}, 'method.augment.target'),
        ('simclr', (), {'method__temperature': 0.0}, 'method.temperature'),
        ('simclr', (), {'method__augment__name': 'none', 'method__augment__transforms': ''}, 'method.augment.name'),
        ('simclr', (), {'model__dropout': 0.5}, 'model.dropout'),
        ('simclr', (), {'method__projection': 0}, 'method.projection'),
    ],
)
def test_what_cannot_be_used_is_refused(arg, labels, changes, message):
    with pytest.raises(UserError, match=message):
        method_of(arg, labels, **changes)


def test_contrast_needs_two_pictures_a_part():
    with pytest.raises(UserError, match=r'train\.batch_size: .* 32 in all'):
        method_of('simclr', batch_size=16, accumulate=16)


@pytest.mark.parametrize('arg', [None, 'simclr'])
def test_frozen_weights_are_kept_in_the_state(arg):
    frozen, method = {'net': {'w': np.ones(3, np.float32)}}, method_of(arg)
    state = jax.eval_shape(method.init, jax.random.key(0), stripes(16), frozen)
    after, _ = jax.eval_shape(method.update, state, stripes(16), jax.random.key(0))
    assert state.frozen['net']['w'].shape == after.frozen['net']['w'].shape == (3,)
