"""The networks of the classical GANs: what every pair promises, and what their configs refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.config import UserError, build
from productgen.core.rng import sample_keys
from productgen.methods import Problem
from productgen.methods.models import PAIRS
from productgen.methods.models.pair import doubling
from productgen.nets.layers import one_hot_labels

SECTIONS = {
    'mlp': {
        'name': 'mlp',
        'z_dim': 6,
        'generator_width': 12,
        'discriminator_width': 12,
        'layers': 2,
        'embed': 3,
        'maxout': 2,
        'dropout': 0.3,
        'input_dropout': 0.0,
    },
    'dcgan': {
        'name': 'dcgan',
        'z_dim': 6,
        'width': 4,
        'max_width': 6,
        'generator_condition': 'concat',
        'discriminator_condition': 'concat',
        'embed': 3,
        'norm': 'none',
        'spectral_norm': False,
        'dropout': 0.3,
    },
    'sngan': {
        'name': 'sngan',
        'z_dim': 6,
        'generator_width': 4,
        'generator_max': 6,
        'discriminator_width': 4,
        'discriminator_max': 6,
        'down_blocks': 2,
        'flat_blocks': 1,
        'discriminator_condition': 'projection',
        'spectral_norm': True,
    },
}
CASES = {
    'mlp': {},
    'dcgan': {},
    'dcgan-batch': {'norm': 'batch', 'generator_condition': 'batch_norm', 'discriminator_condition': 'projection'},
    'dcgan-classes': {'norm': 'layer', 'spectral_norm': True, 'discriminator_condition': 'classes'},
    'sngan': {},
    'sngan-classes': {'discriminator_condition': 'classes', 'spectral_norm': False},
}
SIZES = (2, 3)
CODES = np.int32([[0, 2], [1, 0], [0, 1], [1, 1]])
LABEL, OTHER = one_hot_labels(CODES, SIZES), one_hot_labels(CODES[::-1], SIZES)
UNKNOWN = jnp.zeros_like(LABEL)
KEYS = sample_keys(jax.random.key(3), jnp.arange(4))
DRAW = np.random.default_rng(0)
Z, IMAGE = np.float32(DRAW.normal(size=(4, 6))), np.float32(DRAW.normal(size=(4, 12, 16, 3)))


def others(x):
    """The same rows in the middle between other ones."""
    return np.concatenate([-x[:1], x[1:3], -x[3:]])


def make(case, plain=False, labels=SIZES, resolution=(12, 16), **changes):
    name = case.split('-')[0]
    model = build(PAIRS[name], SECTIONS[name] | CASES[case] | changes, 'model')
    return model.pair(Problem(resolution, labels, 4), plain)


def drawn(net, x):
    """Variables of a network: parameters around zero, statistics above it."""
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), x, LABEL, KEYS, train=True))
    draw = lambda p: 0.4 * np.float32(np.random.default_rng(p.size).normal(size=p.shape))
    values = jax.tree.map(draw, variables)
    return values | {name: jax.tree.map(lambda x: np.abs(x) + 0.1, values[name]) for name in values if name == 'stats'}


class Built:
    """A pair with drawn parameters (some start at zero) and its jitted forward passes."""

    def __init__(self, case):
        self.pair = make(case)
        self.nets = {'generator': (self.pair.generator, Z), 'discriminator': (self.pair.discriminator, IMAGE)}
        self.variables = {name: drawn(*net) for name, net in self.nets.items()}
        self._calls = {name: self._jitted(name, net) for name, (net, _) in self.nets.items()}

    @staticmethod
    def _jitted(name, net):
        def run(variables, x, label, keys, weight, train):
            scaled = {'label_weight': weight} if name == 'generator' else {}
            return net.apply(variables, x, label, keys, train=train, **scaled, mutable=['stats'])

        return jax.jit(run, static_argnames='train')

    def __call__(self, name, label, weight=1.0, train=True, x=None):
        """Logits or images."""
        x = self.nets[name][1] if x is None else x
        out, _ = self._calls[name](self.variables[name], x, label, KEYS, jnp.float32(weight), train=train)
        return np.asarray(out if name == 'generator' else out.logit)


built = functools.cache(Built)


@pytest.mark.parametrize('case', CASES)
def test_shapes_and_statistics(case):
    one = built(case)
    images = one('generator', LABEL)
    assert images.shape == (4, 12, 16, 3) and np.abs(images).max() <= 1
    assert one('discriminator', LABEL).shape == (4,)
    kept = {name: 'stats' in variables for name, variables in one.variables.items()}
    assert kept == {'generator': 'mlp' not in case, 'discriminator': case in ('sngan', 'dcgan-classes')}
    assert one.pair.couples_images == (case == 'dcgan-batch')


@pytest.mark.parametrize('case', CASES)
def test_at_weight_zero_a_label_does_not_change_the_generator(case):
    one = built(case)
    nothing, half, whole = (one('generator', LABEL, weight) for weight in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(one('generator', OTHER, 0.0), nothing)
    np.testing.assert_allclose(one('generator', UNKNOWN), nothing, rtol=1e-5, atol=1e-6)
    assert min(np.abs(a - b).max() for a, b in ((nothing, half), (half, whole), (nothing, whole))) > 1e-4


@pytest.mark.parametrize('case', CASES)
def test_a_label_changes_the_logit_except_of_a_classifier(case):
    one = built(case)
    changed = not np.allclose(one('discriminator', LABEL), one('discriminator', OTHER), atol=1e-4)
    assert changed == (not case.endswith('classes'))


@pytest.mark.parametrize('name', ['generator', 'discriminator'])
@pytest.mark.parametrize('case', ['dcgan-batch', 'sngan'])
def test_an_unknown_label_is_the_net_without_labels(case, name):
    one = built(case)
    np.testing.assert_allclose(one(name, UNKNOWN), one(name, None), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('case', CASES)
def test_images_do_not_depend_on_each_other_outside_training(case):
    one = built(case)
    for name in ('generator', 'discriminator'):
        first, second = (one(name, LABEL, train=False, x=x) for x in (one.nets[name][1], others(one.nets[name][1])))
        coupled = name == 'discriminator' and one.pair.couples_images
        assert np.array_equal(first[1:3], second[1:3]) != coupled
        assert not np.allclose(first[0], second[0], atol=1e-4)


@pytest.mark.parametrize('case', ['dcgan-batch', 'sngan'])
def test_a_plain_head_does_not_see_the_label(case):
    net = make(case, plain=True).discriminator
    variables = drawn(net, IMAGE)
    run = jax.jit(lambda label: net.apply(variables, IMAGE, label, KEYS))
    verdicts = [run(label) for label in (LABEL, OTHER)]
    np.testing.assert_array_equal(verdicts[0].plain, verdicts[1].plain)
    assert not np.allclose(verdicts[0].logit, verdicts[1].logit)
    assert not np.allclose(verdicts[0].plain, verdicts[0].logit)


@pytest.mark.parametrize('case', ['dcgan-classes', 'sngan-classes'])
def test_a_classifier_predicts_every_attribute_and_needs_no_plain_head(case):
    net = make(case, plain=True).discriminator
    verdict = jax.eval_shape(net.init_with_output, jax.random.key(0), IMAGE, LABEL, KEYS)[0]
    assert [c.shape for c in verdict.classes] == [(4, 2), (4, 3)] and verdict.plain is None


@pytest.mark.parametrize('case', CASES)
def test_without_labels_nothing_is_conditional(case):
    pair = make(case, plain=True, labels=())
    for net, x in ((pair.generator, Z), (pair.discriminator, IMAGE)):
        params = jax.eval_shape(net.init, jax.random.key(0), x, None, KEYS)['params']
        assert not [path for path, _ in jax.tree_util.tree_leaves_with_path(params) if 'label' in str(path)]


@pytest.mark.parametrize(
    'case, resolution', [('mlp', (1, 1)), ('mlp', (7, 3)), ('dcgan', (32, 8)), ('sngan', (20, 28))]
)
def test_other_resolutions(case, resolution):
    pair = make(case, resolution=resolution)
    image = jax.eval_shape(pair.generator.init_with_output, jax.random.key(0), Z, LABEL, KEYS)[0]
    assert image.shape == (4, *resolution, 3)
    verdict = jax.eval_shape(
        pair.discriminator.init_with_output, jax.random.key(0), jnp.zeros(image.shape), LABEL, KEYS
    )[0]
    assert verdict.logit.shape == (4,)


def test_widths_are_those_of_the_papers():
    assert doubling(128, 1024, 4) == (128, 256, 512, 1024)
    g = make('dcgan', resolution=(64, 64), width=128, max_width=1024)
    assert (g.generator.base, g.generator.widths) == ((4, 4), (1024, 512, 256, 128))
    assert g.discriminator.widths == (128, 256, 512, 1024)
    wide = {'generator_width': 64, 'generator_max': 1024, 'discriminator_width': 64, 'discriminator_max': 1024}
    large = make('sngan', resolution=(128, 128), down_blocks=5, **wide)
    assert large.generator.widths == (1024, 1024, 512, 256, 128, 64)
    assert large.discriminator.widths == (64, 128, 256, 512, 1024, 1024)


@pytest.mark.parametrize(
    'case, changes, message',
    [
        ('mlp', {'layers': 0}, 'model.layers: 0 is too small; it must be at least 1'),
        ('mlp', {'maxout': -1}, 'model.maxout'),
        ('mlp', {'maxout': 1}, 'model.maxout: .*take 2 or more'),
        ('mlp', {'dropout': 1.0}, 'model.dropout: 1.0 is not a fraction'),
        ('mlp', {'plain': True}, 'model.name: .*method.transition_kimg'),
        ('dcgan', {'norm': 'bach'}, "model.norm: .*did you mean 'batch'"),
        ('dcgan', {'max_width': 3}, 'model.max_width: .*at least 4'),
        ('dcgan', {'generator_condition': 'projection'}, 'model.generator_condition'),
        ('dcgan', {'discriminator_condition': 'batch_norm'}, 'model.discriminator_condition'),
        ('dcgan', {'plain': True}, "model.discriminator_condition: .*choose 'projection'"),
        ('dcgan', {'resolution': (30, 30)}, 'data.resolution: 30x30 .*nearest'),
        ('sngan', {'resolution': (13, 16)}, 'data.resolution: 16x13'),
        ('sngan', {'down_blocks': 3}, 'model.down_blocks: images of 16x12 can be halved 2 times, not 3'),
        ('sngan', {'discriminator_condition': 'concat'}, 'model.discriminator_condition'),
        ('sngan', {'flat_blocks': -1}, 'model.flat_blocks'),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(case, changes, message):
    with pytest.raises(UserError, match=message):
        make(case, **changes)
