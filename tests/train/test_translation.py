"""A method that translates pictures: paired data, sheets while training, figures on held-out pairs."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from tiny import describe, open_run, train
from toy import toy_config

from productgen.config import UserError
from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.pixels import to_float, to_uint8
from productgen.core.rng import stream
from productgen.core.state import State, create_net
from productgen.core.step import average, step_net
from productgen.data.pictures import grid, side_by_side
from productgen.methods import METHODS, Family, Method, Problem
from productgen.methods.base import Knob, scaled, weighted
from productgen.model.trained import Trained
from productgen.train.preview import Preview


@dataclasses.dataclass(frozen=True)
class PaintConfig:
    name: str = 'paint'


@dataclasses.dataclass(frozen=True)
class NoModel:
    pass


@dataclasses.dataclass(frozen=True)
class Paint(Method):
    """Fills a mask with a colour of its own and the background with another, as least squares would."""

    problem: Problem
    tx: optax.GradientTransformation

    knobs = (Knob('truncation', 1.0, 0.0, 2.0), Knob('guidance', 1.0, 0.0, 9.0))

    def inputs(self):
        pair = {name: self.problem.shape(name) for name in ('input', 'target')}
        return pair | {'label': self.problem.label}

    def init(self, rng, batch, frozen):
        params = {'colours': jnp.zeros((2, 3)), 'bias': 0.01 * jax.random.normal(stream(rng, 'bias'), (3,))}
        return State(jnp.zeros((), jnp.int32), {'painter': create_net(params, self.tx, ema=True)}, {}, frozen)

    def _paint(self, params, mask):
        inside = (to_float(mask) + 1) / 2  # [B, H, W, 1]
        return inside * params['colours'][0] + (1 - inside) * params['colours'][1] + params['bias']

    def update(self, state, batch, rng):
        def loss(params, stats, batch):
            value = jnp.mean((self._paint(params, batch['input']) - to_float(batch['target'])) ** 2)
            return value, (stats, {'loss': value})

        net, metrics = step_net(state.nets['painter'], self.tx, loss, batch)
        nets = {'painter': average(net, 0.5)}
        return state.replace(step=state.step + 1, nets=nets), weighted({'loss/painter': metrics['loss']})

    def translate(self, state, batch, rng, knobs):
        """`guidance` scales the contrast."""
        image = self._paint(state.nets['painter'].ema, batch['input'])
        return jnp.clip(scaled(image, knobs.get('guidance', 1.0)), -1, 1)

    def evaluate(self, state, batch, rng):
        error = self._paint(state.nets['painter'].ema, batch['input']) - to_float(batch['target'])
        return {'loss': jnp.mean(error**2, (1, 2, 3))}


@pytest.fixture(scope='module', autouse=True)
def paint():
    make = lambda sections, problem: Paint(problem, make_optimizer(sections.optim['painter'], problem.steps))
    METHODS['paint'] = Family(PaintConfig, NoModel, ('painter',), make)
    yield
    del METHODS['paint']


def paint_config(**fields):
    """Products from their masks."""
    fields = {'data__input': 'mask', 'data__target': 'image', 'train__validate_every': '10steps', **fields}
    config = toy_config(train__duration='20steps', train__sample_every='10steps', **fields)
    optim = dataclasses.asdict(OptimConfig(name='sgd', learning_rate=1.0, b1=0.0))
    return config | {'method': {'name': 'paint'}, 'model': {}, 'optim': {'painter': optim}}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Workdir and outcome."""
    workdir = tmp_path_factory.mktemp('paint') / 'run'
    return workdir, train(paint_config(train__stop_on='loss'), workdir)


def test_it_learns_and_validates_by_its_own_figures(run):
    workdir, outcome = run
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    losses = [row['validation/loss'] for row in rows if 'validation/loss' in row]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert outcome.figures == {'loss': losses[1]} and outcome.best.step == 20
    assert not [name for row in rows for name in row if 'swd' in name or name == 'diversity']


def test_validation_is_the_mean_over_held_out_pairs(run):
    workdir, outcome = run
    opened, state = open_run(paint_config()), Trained.open(workdir).state
    pairs = opened.batches().load(opened.held_out)
    params = jax.device_get(state.nets['painter'].ema)
    inside = pairs['input'] / 255
    image = inside * params['colours'][0] + (1 - inside) * params['colours'][1] + params['bias']
    assert outcome.figures['loss'] == pytest.approx(np.mean((image - (pairs['target'] / 127.5 - 1)) ** 2), rel=1e-4)


def test_sheets_show_inputs_translations_and_targets(run):
    workdir, outcome = run
    sheets = sorted(path.name for path in (workdir / 'samples').iterdir())
    names = [f'translations_{kimg}kimg.png' for kimg in ('0000000.0', '0000000.080', '0000000.160')]
    assert sheets == sorted(set(names)) and outcome.picture == workdir / 'samples' / names[-1]
    # The last one, by hand: held-out pictures, of the knobs' values in the sample section.
    opened, trained = open_run(paint_config()), Trained.open(workdir)
    preview = Preview.of(opened, opened.batches(), opened.held_out)
    rows = preview.rows
    assert set(rows) == {'input', 'target'} and rows['input'].shape == (8, 16, 16, 1)
    made = trained.translate(rows['input'], guidance=opened.config.sample.guidance)
    rgb = np.broadcast_to(rows['input'], made.shape)
    columns = [grid(images, preview.columns, preview.names) for images in (rgb, made, rows['target'])]
    expected = side_by_side(columns, ('input', 'translated', 'target'))
    with Image.open(outcome.picture) as image:
        found = np.asarray(image)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_it_translates_new_pictures_and_knobs_apply(run):
    trained = Trained.open(run[0], batch_size=4)
    masks = np.random.default_rng(0).integers(0, 2, (5, 16, 16, 1), np.uint8) * 255
    image = trained.model.method._paint(trained.state.nets['painter'].ema, jnp.asarray(masks))
    for guidance in (1.0, 2.0):
        expected = to_uint8(jnp.clip(image * guidance, -1, 1))
        made = trained.translate(masks, guidance=guidance)
        assert made.shape == (5, 16, 16, 3) and np.abs(made.astype(int) - np.asarray(expected)).max() <= 1
    with pytest.raises(UserError, match="its method, 'paint', generates no pictures"):
        trained.generate([0])


def test_it_is_described_without_training():
    text = describe(paint_config())
    assert 'painter: 9' in text and 'translations' not in text


def test_columns_that_the_data_set_lacks_are_refused_by_field():
    with pytest.raises(UserError, match=r'^data\.input: .*\'input\''):
        open_run(paint_config(data__input=''))
    with pytest.raises(UserError, match=r"^data\.target: .*'drawing'"):
        open_run(paint_config(data__target='drawing'))
