"""Classifier and SimCLR: their losses, what they learn, and refused settings."""

import functools

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
    config['method']['augment']['transforms'] = 'xflip,contrast'
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


# Half a cosine over 60 updates.
MOVING = {'method__augment__p': '0.8->0'}
PLAIN = {'method__augment__name': 'none', 'method__augment__transforms': '', 'optim__classifier__learning_rate': 3e-3}


@functools.cache
def moving(arg=None, accumulate=1):
    """A method whose augmentation moves, and its first state and its update, compiled."""
    if arg is None:
        optim = {'name': 'sgd', 'learning_rate': 1e-2, 'schedule': 'constant', 'warmup': 0.0, 'clip': 0.0}
        changes = {f'optim__classifier__{name}': value for name, value in optim.items()}
    else:
        changes = {'labels': (), 'optim__encoder__learning_rate': 3e-3}
    return started(method_of(arg, accumulate=accumulate, **MOVING, **changes))


@functools.cache
def plain(dropout=0.0):
    """A classifier without augmentation, and its first state and its update, compiled."""
    return started(method_of(**PLAIN, model__dropout=dropout))


def started(method):
    return method, jax.jit(method.init)(jax.random.key(0), stripes(16), {}), jax.jit(method.update)


def trained(method, state, update, steps):
    for step in range(steps):
        state, _ = update(state, stripes(16, step), jax.random.fold_in(jax.random.key(1), step))
    return state


def test_stripes_are_distinguished():
    state = trained(*plain(), 40)
    figures = jax.jit(plain()[0].evaluate)(state, stripes(64, 1000), jax.random.key(0))
    assert figures['error'].mean() <= 0.05 and figures['loss'].mean() < 0.4


@pytest.mark.parametrize('arg, name', [(None, 'classifier'), ('simclr', 'encoder')])
def test_the_loss_is_of_augmented_pictures_and_their_probability_moves_with_the_step(arg, name):
    """The smoothed entropy of a picture, or the contrast between two views of it."""
    (method, state, update), batch, rng = moving(arg), stripes(16), jax.random.key(3)

    @jax.jit
    def expected(p):
        keys, params = sample_keys(rng, jnp.arange(16)), {'params': state.nets[name].params}
        augmented = lambda name: method.augment(to_float(batch['image']), p, streams(keys, name))
        if arg is None:
            image = augmented('augment')
            return image, cross_entropy(method.net.apply(params, image)[1], batch['label'], 0.1).mean()
        first, second = augmented('first'), augmented('second')
        return first - second, nt_xent(*(method.net.apply(params, view)[1] for view in (first, second)), 0.2).mean()

    for step, p in ((0, 0.8), (30, 0.4), (60, 0.0)):
        _, metrics = update(state.replace(step=jnp.asarray(step, jnp.int32)), batch, rng)
        image, loss = expected(p)
        np.testing.assert_allclose(metrics['loss'].value, loss, rtol=1e-4)
        assert np.allclose(image, to_float(batch['image']) if arg is None else 0, atol=1e-6) == (p == 0)


def test_features_are_dropped_in_training_only():
    batch, rng, (_, state, _) = stripes(16), jax.random.key(3), plain()
    loss = [update(state, batch, rng)[1]['loss'].value for _, _, update in (plain(), plain(0.5))]
    assert abs(loss[0] - loss[1]) > 1e-3
    figures = [jax.jit(method.evaluate)(state, batch, rng)['loss'] for method, _, _ in (plain(), plain(0.5))]
    np.testing.assert_array_equal(*figures)


def test_errors_are_counted_over_known_attributes():
    method = method_of(labels=(2, 3))
    batch = stripes(4) | {'label': np.array([[0, 1], [1, -1], [-1, -1], [0, 0]], np.int32)}

    @jax.jit
    def results(rng):
        state = method.init(rng, batch, {})
        return method.classify(state, batch, rng), method.evaluate(state, batch, rng)

    logits, figures = results(jax.random.key(0))
    answers = [np.argmax(x, -1) for x in logits]
    wrong = np.stack(answers, 1) != batch['label']
    np.testing.assert_allclose(figures['error'], [wrong[0].mean(), wrong[1, 0], np.nan, wrong[3].mean()])
    assert list(np.isfinite(figures['loss'])) == [True, True, False, True]


def test_a_batch_in_parts_gives_what_the_whole_gives():
    states = moving()[1], trained(*moving(), 1), trained(*moving(accumulate=4), 1)
    before, *after = (state.nets['classifier'].params for state in states)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *after)
    change = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after[0])
    assert np.max(jax.tree.leaves(change)) > 1e-3


def test_contrast_learns_to_distinguish_pictures_without_labels():
    method, state, update = moving('simclr')
    # Under the first update's augmentation, of pictures that were not learned.
    loss = lambda state: update(state.replace(step=0), stripes(16, 1000), jax.random.key(2))[1]['loss'].value
    assert loss(trained(*moving('simclr'), 40)) < 0.9 * loss(state)
    assert jax.eval_shape(method.represent, state, stripes(5), jax.random.key(0)).shape == (5, 16)


@pytest.mark.parametrize('arg, capabilities', [(None, {Classifies, Represents, Evaluable}), ('simclr', {Represents})])
def test_capabilities(arg, capabilities):
    method = method_of(arg)
    assert {c for c in (Classifies, Represents, Evaluable, Generates) if isinstance(method, c)} == capabilities
    assert method.in_one_part().problem.accumulate == 1


@pytest.mark.parametrize('arg, name', [(None, 'classifier'), ('simclr', 'encoder')])
def test_results_come_from_the_averaged_weights_and_pictures_as_they_are(arg, name):
    (method, _, _), batch = moving(arg), stripes(4)
    state = trained(*moving(arg), 3)
    averages, image, key = state.nets[name].ema, batch['image'], jax.random.key(0)
    features, outputs = (
        jax.jit(lambda params, image, i=i: method.net.apply({'params': params}, to_float(image))[i]) for i in (0, 1)
    )
    expected = features(averages, image)
    np.testing.assert_array_equal(jax.jit(method.represent)(state, batch, key), expected)
    assert not np.allclose(features(state.nets[name].params, image), expected, rtol=1e-4)
    if arg is None:
        logits = outputs(averages, image)
        np.testing.assert_array_equal(jax.jit(method.classify)(state, batch, key)[0], logits[0])
        loss = jax.jit(method.evaluate)(state, batch, key)['loss']
        np.testing.assert_allclose(loss, cross_entropy(logits, batch['label']), rtol=1e-5)


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
