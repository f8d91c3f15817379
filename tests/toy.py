"""A method that compiles quickly and has most of what a method can have: it learns the mean picture of each label."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from tiny import tiny_config

from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream
from productgen.core.state import State, create_net
from productgen.core.step import average, step_net
from productgen.methods.base import Family, Knob, Method, Problem, scaled, weighted
from productgen.nets.layers import one_hot_labels

NETS = ('painter', 'judge')


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    name: str = 'toy'


@dataclasses.dataclass(frozen=True)
class ToyModel:
    width: int = 2


@dataclasses.dataclass(frozen=True)
class Toy(Method):
    problem: Problem
    width: int
    txs: dict[str, optax.GradientTransformation]

    knobs = (Knob('truncation', 1.0, 0.0, 2.0),)

    def _paint(self, params, label):
        """[B, A] -> [B, H, W, 3]: one picture for all, and a colour for each label."""
        image = jnp.broadcast_to(params['canvas'], (len(label), *params['canvas'].shape))
        if self.problem.labels:
            image = image + (one_hot_labels(label, self.problem.labels) @ params['embed'])[:, None, None]
        return image

    def init(self, rng, batch, frozen):
        draw = lambda name, shape: 0.1 * jax.random.normal(stream(rng, name), shape)
        painter = {'canvas': draw('canvas', (*self.problem.resolution, 3)), 'spare': {'bias': draw('spare', (5,))}}
        if self.problem.labels:
            painter['embed'] = draw('embed', (sum(self.problem.labels), 3))
        judge = {'dense': {'kernel': draw('dense', (self.width, 3)), 'bias': draw('bias', (3,))}}
        nets = {
            'painter': create_net(painter, self.txs['painter'], {'seen': jnp.zeros(())}, ema=True),
            'judge': create_net(judge, self.txs['judge'], ema=True),
        }
        return State(jnp.zeros((), jnp.int32), nets, {}, frozen)

    def update(self, state, batch, rng):
        batch = {'image': to_float(batch['image']), 'label': batch['label']}

        def paint(params, stats, batch):
            loss = jnp.mean((self._paint(params, batch['label']) - batch['image']) ** 2)
            return loss + jnp.sum(params['spare']['bias'] ** 2), ({'seen': stats['seen'] + 1}, {'loss': loss})

        def judge(params, stats, batch):
            return sum(jnp.sum(x**2) for x in jax.tree.leaves(params)), (stats, {})

        painter, metrics = step_net(state.nets['painter'], self.txs['painter'], paint, batch)
        judged, _ = step_net(state.nets['judge'], self.txs['judge'], judge, batch)
        nets = {'painter': average(painter, 0.5), 'judge': average(judged, 0.5)}
        return state.replace(step=state.step + 1, nets=nets), weighted({'loss/painter': metrics['loss']})

    def generate(self, state, batch, rng, knobs):
        """The picture of the label, with noise that `truncation` scales."""
        keys = sample_keys(rng, batch['seed'])
        noise = jax.vmap(lambda key: jax.random.normal(key, (*self.problem.resolution, 3)))(keys)
        noise = 0.05 * scaled(noise, knobs.get('truncation', 1.0))
        return jnp.clip(self._paint(state.nets['painter'].ema, batch['label']) + noise, -1, 1)

    def evaluate(self, state, batch, rng):
        error = self._paint(state.nets['painter'].ema, batch['label']) - to_float(batch['image'])
        return {'loss': jnp.mean(error**2, (1, 2, 3)), 'seed': batch['seed'].astype(jnp.float32)}

    def reconstruct(self, state, batch, rng):
        return (to_float(batch['image']) + self._paint(state.nets['painter'].ema, batch['label'])) / 2


def make(sections, problem):
    """As every method's; to be replaced in `FAMILY` by tests that need another toy."""
    txs = {name: make_optimizer(sections.optim[name], problem.steps) for name in NETS}
    return Toy(problem, sections.model.width, txs)


FAMILY = Family(method=ToyConfig, model=ToyModel, networks=NETS, make=make)


def toy_config(**overrides):
    """`tiny_config` for this method, in batches of 8, as plain dicts; register `FAMILY` in METHODS first."""
    config = tiny_config()
    config['method'], config['model'] = dataclasses.asdict(ToyConfig()), dataclasses.asdict(ToyModel())
    optim = OptimConfig(name='sgd', learning_rate=0.1, b1=0.0)
    config['optim'] = {name: dataclasses.asdict(optim) for name in NETS}
    for field, value in {'data__labels': 'label', **overrides}.items():
        *path, name = field.split('__')
        section = config
        for part in path:
            section = section[part]
        assert name in section, field
        section[name] = value
    return config
