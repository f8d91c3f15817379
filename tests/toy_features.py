"""Methods with features that compile quickly: one that only represents, one that classifies, one that generates."""

import dataclasses

import jax.numpy as jnp
import optax
import toy

from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.state import State, create_net
from productgen.core.step import average, step_net
from productgen.losses.classification import cross_entropy
from productgen.methods import METHODS
from productgen.methods.base import Family, Method, Problem, weighted
from productgen.model.config import complete_config

CELLS = 4  # a picture is described by the mean colours of 4 x 4 cells


@dataclasses.dataclass(frozen=True)
class FeaturesConfig:
    name: str = ''


@dataclasses.dataclass(frozen=True)
class Mute(Method):
    """Learns a gain of 1 for every mean colour, and can do nothing with it."""

    problem: Problem
    tx: optax.GradientTransformation

    def params(self):
        return {'gain': jnp.full(CELLS * CELLS * 3, 0.5)}

    def features(self, params, image):
        height, width = (side // CELLS for side in self.problem.resolution)
        cells = to_float(image).reshape(-1, CELLS, height, CELLS, width, 3).mean((2, 4))
        return cells.reshape(len(image), -1) * params['gain']

    def loss(self, params, batch):
        return jnp.mean((params['gain'] - 1) ** 2)

    def init(self, rng, batch, frozen):
        net = create_net(self.params(), self.tx, ema=True)
        return State(jnp.zeros((), jnp.int32), {'describer': net}, {}, frozen)

    def update(self, state, batch, rng):
        def loss(params, stats, batch):
            value = self.loss(params, batch)
            return value, (stats, {'loss': value})

        net, metrics = step_net(state.nets['describer'], self.tx, loss, batch)
        return state.replace(step=state.step + 1, nets={'describer': average(net, 0.5)}), weighted(metrics)


@dataclasses.dataclass(frozen=True)
class Describer(Mute):
    """Describes pictures by mean colours."""

    def represent(self, state, batch, rng):
        return self.features(state.nets['describer'].ema, batch['image'])


@dataclasses.dataclass(frozen=True)
class Sorter(Describer):
    """Predicts every label linearly from the description."""

    def params(self):
        sizes = enumerate(self.problem.labels)
        return super().params() | {f'kernel{i}': jnp.zeros((CELLS * CELLS * 3, size)) for i, size in sizes}

    def logits(self, params, image):
        features = self.features(params, image)
        return [features @ params[f'kernel{i}'] for i in range(len(self.problem.labels))]

    def loss(self, params, batch):
        return jnp.mean(cross_entropy(self.logits(params, batch['image']), batch['label']))

    def classify(self, state, batch, rng):
        return self.logits(state.nets['describer'].ema, batch['image'])


@dataclasses.dataclass(frozen=True)
class DescribingToy(toy.Toy):
    """Generates, and also has features."""

    def represent(self, state, batch, rng):
        canvas = state.nets['painter'].ema['canvas']
        return jnp.mean(to_float(batch['image']) - canvas, (1, 2))


def _family(method):
    make = lambda sections, problem: method(problem, make_optimizer(sections.optim['describer'], problem.steps))
    return Family(method=FeaturesConfig, model=toy.ToyModel, networks=('describer',), make=make)


def _make_describing_toy(sections, problem):
    made = toy.make(sections, problem)
    return DescribingToy(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})


FAMILIES = {
    'mute': _family(Mute),
    'describer': _family(Describer),
    'sorter': _family(Sorter),
    'describing_toy': dataclasses.replace(toy.FAMILY, make=_make_describing_toy),
}


def features_config(name, **sections):
    """A config of one of `FAMILIES`, which must be in METHODS, as plain dicts: 400 pictures of 16 x 16."""
    optim = {'name': 'sgd', 'learning_rate': 0.5, 'b1': 0.0}
    config = {
        'method': {'name': name},
        'optim': dict.fromkeys(METHODS[name].networks, optim),
        'data': {'resolution': '16', 'catalog_items': 400, 'validation': 0.2, 'labels': 'label,colour'},
        'train': {'batch_size': 16, 'duration': '20steps', 'grid_columns': 2, 'grid_rows': 2},
        'eval': {'count': 60},
    }
    return complete_config({part: config.get(part, {}) | sections.get(part, {}) for part in {*config, *sections}})
