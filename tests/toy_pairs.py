"""A method that translates pictures and compiles quickly: a line from every input value to every colour."""

import dataclasses

import jax.numpy as jnp
import optax

from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.state import State, create_net
from productgen.core.step import average, step_net
from productgen.methods.base import Family, Knob, Method, Problem, scaled, weighted
from productgen.model.config import complete_config


@dataclasses.dataclass(frozen=True)
class LinesConfig:
    name: str = 'lines'


@dataclasses.dataclass(frozen=True)
class LinesModel:
    start: float = 0.5


@dataclasses.dataclass(frozen=True)
class Lines(Method):
    problem: Problem
    start: float
    tx: optax.GradientTransformation

    knobs = (Knob('truncation', 1.0, 0.0, 2.0),)

    def inputs(self):
        return {name: self.problem.shape(name) for name in ('input', 'target')}

    def init(self, rng, batch, frozen):
        params = {'slope': jnp.full(3, self.start), 'height': jnp.zeros(3)}
        return State(jnp.zeros((), jnp.int32), {'lines': create_net(params, self.tx, ema=True)}, {}, frozen)

    def update(self, state, batch, rng):
        def loss(params, stats, batch):
            made = params['slope'] * to_float(batch['input']) + params['height']
            value = jnp.mean((made - to_float(batch['target'])) ** 2)
            return value, (stats, {'loss': value})

        net, metrics = step_net(state.nets['lines'], self.tx, loss, batch)
        return state.replace(step=state.step + 1, nets={'lines': average(net, 0.5)}), weighted(metrics)

    def translate(self, state, batch, rng, knobs):
        """`truncation` scales the slope."""
        params, x = state.nets['lines'].ema, to_float(batch['input'])
        return jnp.clip(scaled(params['slope'] * x, knobs.get('truncation', 1.0)) + params['height'], -1, 1)


def make(sections, problem):
    return Lines(problem, sections.model.start, make_optimizer(sections.optim['lines'], problem.steps))


FAMILY = Family(method=LinesConfig, model=LinesModel, networks=('lines',), make=make)


def lines_config(**sections):
    """A config from masks to pictures of 24 x 24 of the catalog as plain dicts; register `FAMILY` as `lines` first."""
    config = {
        'method': {'name': 'lines'},
        'optim': {'lines': {'name': 'sgd', 'learning_rate': 0.1, 'b1': 0.0}},
        'data': {'resolution': '24', 'catalog_items': 200, 'validation': 0.2, 'labels': 'none'},
        'train': {'batch_size': 8, 'duration': '20steps', 'log_every': '5steps', 'grid_columns': 2, 'grid_rows': 2},
    }
    config['data'] |= {'input': 'mask', 'target': 'image'}
    return complete_config({part: config.get(part, {}) | sections.get(part, {}) for part in {*config, *sections}})
