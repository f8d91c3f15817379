"""The adversarial method around networks small enough to write its updates out by hand."""

import copy
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.config import build
from productgen.core.optim import OptimConfig
from productgen.core.rng import sample_keys, stream
from productgen.methods import Problem
from productgen.methods.base import Sections
from productgen.methods.gan import FAMILY, GanConfig
from productgen.methods.models import Pair
from productgen.nets.conditioning import Embed, Judgement, split_classes

KEY, LABELS, BATCH, SHAPE = jax.random.key(0), (3, 2), 8, (2, 3)
SGD = {'name': 'sgd', 'learning_rate': 0.5, 'b1': 0.0}


class Generator(nn.Module):
    """Pixels linear in z, shifted by the label's embedding; counts its training passes, keeps the last mean."""

    @nn.compact
    def __call__(self, z, label, keys, train=False, label_weight=1.0):
        count = self.variable('stats', 'count', jnp.zeros, ())
        if train and not self.is_initializing():
            count.value += 1
        mean = self.variable('stats', 'mean', jnp.zeros, ())
        x = nn.Dense(18, name='pixels')(z)
        if label is not None:
            x += Embed(18, name='embed')(label, label_weight)
        if train and not self.is_initializing():
            mean.value = jnp.mean(x)
        return jnp.tanh(x).reshape(-1, *SHAPE, 3)


class Discriminator(nn.Module):
    """A curved logit, a projection of the label, class logits and a plain head where configured."""

    plain_head: bool = False
    classify: bool = False

    @nn.compact
    def __call__(self, image, label, keys, train=False):
        count = self.variable('stats', 'count', jnp.zeros, ())
        if train and not self.is_initializing():
            count.value += 1
        x = jnp.tanh(nn.Dense(5, name='hidden')(image.reshape(len(image), -1)))
        plain = nn.Dense(1, name='plain')(x)[:, 0] if self.plain_head else None
        logit = nn.Dense(1, name='logit')(x)[:, 0]
        if self.classify:
            return Judgement(logit, plain, split_classes(nn.Dense(sum(LABELS), name='classes')(x), LABELS))
        if label is not None:
            logit += jnp.sum(x * Embed(5, name='embed')(label), -1)
        return Judgement(logit, plain)


@dataclasses.dataclass(frozen=True)
class Model:
    """The networks above as a `model` section: `toy`, `coupled` or `classes`."""

    name: str = 'toy'

    def pair(self, problem, plain_head):
        discriminator = Discriminator(plain_head, classify=self.name == 'classes')
        return Pair(4, Generator(), discriminator, couples_images=self.name == 'coupled')


METHOD = {
    'name': 'gan',
    'loss': 'non_saturating',
    'penalty': 'none',
    'penalty_weight': '0',
    'penalty_interval': 1,
    'critic_steps': 1,
    'clip_weights': 0.0,
    'classification': 1.0,
    'transition_kimg': '',
    'anneal': 1.0,
    'ema_kimg': '0.01',
    'ema_rampup': 0.0,
    'augment': {'name': 'none'},
}


def gan(labels=LABELS, accumulate=1, pair='toy', steps=100, batch_size=BATCH, optim=SGD, **changes):
    config = build(GanConfig, copy.deepcopy(METHOD) | changes, 'method')
    optim = {name: build(OptimConfig, optim, f'optim.{name}') for name in FAMILY.networks}
    return FAMILY.make(Sections(config, Model(pair), optim), Problem(SHAPE, labels, batch_size, accumulate, steps))


def batch_of(seed=0, size=BATCH):
    rng = np.random.default_rng(seed)
    label = np.stack([rng.integers(0, n, size) for n in LABELS], 1).astype(np.int32)
    return {'image': rng.integers(0, 256, (size, *SHAPE, 3), np.uint8), 'label': label}


def one_hot(label):
    return jnp.concatenate([jax.nn.one_hot(label[:, a], n) for a, n in enumerate(LABELS)], 1)


STARTS = {}  # by names and shapes of what they hold


def start_of(method, batch=None):
    """The state before the first update, the same for methods with the same networks and optimisers."""
    batch = batch_of() if batch is None else batch
    shapes = str(jax.eval_shape(method.init, KEY, batch, {}))
    if shapes not in STARTS:
        STARTS[shapes] = jax.device_get(jax.jit(method.init)(stream(KEY, 'init'), batch, {}))
    return STARTS[shapes].replace(extra=method.critic.initial())


PROGRAMS = {}  # by the identity of the method, which stays alive with its program


def compiled(method):
    """The update."""
    return PROGRAMS.setdefault(id(method), (method, jax.jit(method.update)))[1]


def update(method, batch=None, state=None):
    batch = batch_of() if batch is None else batch
    start = state or start_of(method, batch)
    state, metrics = compiled(method)(start, batch, KEY)
    assert all(metric.weight == 1 for name, metric in metrics.items() if name != 'loss/penalty')
    return start, state, {name: metric.value for name, metric in metrics.items()}


def moved(start, state, name):
    """What plain gradient descent says the gradient was."""
    old, new = start.nets[name].params, state.nets[name].params
    return jax.tree.map(lambda a, b: (a - b) / SGD['learning_rate'], old, new)


def slopes(g_loss, d_loss, start):
    """The gradients of both players' objectives before an update."""
    g, d = (start.nets[name].params for name in ('generator', 'discriminator'))
    return jax.jit(lambda g, d: (jax.grad(g_loss)(g), jax.grad(d_loss)(d)))(g, d)


@functools.cache
def keys_of(name, size=BATCH):
    with jax.ensure_compile_time_eval():  # not part of the programs that use them, which take long to compile with it
        return sample_keys(stream(KEY, name), jnp.arange(size))


@functools.cache
def drawn(name, size):
    """Latents of a step."""
    with jax.ensure_compile_time_eval():
        return gan().draw(keys_of(name, size))


def fakes(params, name, label, label_weight=1.0):
    variables = {'params': params, 'stats': {'count': jnp.zeros(()), 'mean': jnp.zeros(())}}
    return Generator().apply(variables, drawn(name, len(label)), one_hot(label), None, label_weight=label_weight)


def verdict(params, image, label, **fields):
    return Discriminator(**fields).apply(
        {'params': params, 'stats': {'count': jnp.zeros(())}}, image, one_hot(label), None
    )


def close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-6), a, b)
