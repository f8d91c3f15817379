"""A method that compiles in no time and has all that a method can have: it learns the mean picture of each label."""

import dataclasses

import jax
import jax.numpy as jnp
from tiny import tiny_config

from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream
from productgen.core.state import State, create_net
from productgen.core.step import average, step_net
from productgen.methods.base import Problem
from productgen.nets.layers import one_hot_labels


@dataclasses.dataclass(frozen=True)
class Toy:
    problem: Problem
    width: int
    txs: dict

    def _paint(self, params, label):
        """[B, A] -> [B, H, W, 3]: one picture for all, and a colour for each label."""
        image = jnp.broadcast_to(params['canvas'], (len(label), *params['canvas'].shape))
        if self.problem.labels:
            image = image + (one_hot_labels(label, self.problem.labels) @ params['embed'])[:, None, None]
        return image

    def init(self, rng, batch):
        draw = lambda name, shape: 0.1 * jax.random.normal(stream(rng, name), shape)
        painter = {'canvas': draw('canvas', (*self.problem.resolution, 3)), 'spare': {'bias': draw('spare', (5,))}}
        if self.problem.labels:
            painter['embed'] = draw('embed', (sum(self.problem.labels), 3))
        judge = {'dense': {'kernel': draw('dense', (self.width, 3)), 'bias': draw('bias', (3,))}}
        nets = {
            'painter': create_net(painter, self.txs['painter'], {'seen': jnp.zeros(())}, ema=True),
            'judge': create_net(judge, self.txs['judge'], ema=True),
        }
        return State(jnp.zeros((), jnp.int32), nets, {}, {})

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
        return State(state.step + 1, nets, {}, {}), {'loss/painter': metrics['loss']}

    def sample(self, state, batch, rng):
        keys = sample_keys(rng, batch['seed'])
        noise = jax.vmap(lambda key: jax.random.normal(key, (*self.problem.resolution, 3)))(keys)
        return {'image': jnp.clip(self._paint(state.nets['painter'].ema, batch['label']) + 0.05 * noise, -1, 1)}

    def evaluate(self, state, batch, rng):
        error = self._paint(state.nets['painter'].ema, batch['label']) - to_float(batch['image'])
        return {'loss': jnp.mean(error**2, (1, 2, 3)), 'seed': batch['seed'].astype(jnp.float32)}

    def reconstruct(self, state, batch, rng):
        return (to_float(batch['image']) + self._paint(state.nets['painter'].ema, batch['label'])) / 2


def make(config, problem):
    build = lambda section: make_optimizer(OptimConfig(**section), problem.steps)
    return Toy(problem, config['model']['width'], {name: build(c) for name, c in config['optim'].items()})


def toy_config(**overrides):
    """`tiny_config` for this method, in batches of 8; register `make` in METHODS first."""
    from configs import common
    from productgen.config import to_dict

    config = tiny_config()
    config['method'], config['model'] = {'name': 'toy'}, {'width': 2}
    config['optim'] = {name: to_dict(common.optimizer(0.1, name='sgd', b1=0.0)) for name in ('painter', 'judge')}
    for field, value in {'data__labels': 'label', **overrides}.items():
        *path, name = field.split('__')
        section = config
        for part in path:
            section = section[part]
        assert name in section, field
        section[name] = value
    return config
