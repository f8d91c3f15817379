"""Retrieval by features: known neighbours, unknown labels, and when pictures are loaded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import classifier_config, describe, open_run

from productgen.config import UserError
from productgen.core.state import State
from productgen.data.pictures import grid
from productgen.data.pipeline import Batches
from productgen.methods import METHODS, Family, Method, Problem
from productgen.train import retrieval
from productgen.train.preview import Preview
from productgen.train.retrieval import Retrieval
from productgen.train.validate import Validator


@dataclasses.dataclass(frozen=True)
class Colours(Method):
    """A method whose features are the mean colours of a picture, and whose figures need a label."""

    problem: Problem

    def init(self, rng, batch, frozen):
        return State(jnp.zeros((), jnp.int32), {}, {}, frozen)

    def represent(self, state, batch, rng):
        return jnp.mean(batch['image'].astype(jnp.float32), (1, 2)) + 1

    def evaluate(self, state, batch, rng):
        value = jnp.mean(batch['image'].astype(jnp.float32), (1, 2, 3)) + state.step.astype(jnp.float32)
        return {'loss': jnp.where((batch['label'] >= 0).any(-1), value, jnp.nan)}


@dataclasses.dataclass(frozen=True)
class ColoursConfig:
    name: str = 'colours'


@dataclasses.dataclass(frozen=True)
class NoModel:
    pass


@pytest.fixture(scope='module', autouse=True)
def colours(once):
    METHODS['colours'] = Family(ColoursConfig, NoModel, (), lambda sections, problem: Colours(problem))
    yield
    del METHODS['colours']


@pytest.fixture
def loaded(monkeypatch):
    """The number of pictures of each load, as they come."""
    counts, load = [], Batches.load

    def counting(self, items):
        counts.append(len(items))
        return load(self, items)

    monkeypatch.setattr(Batches, 'load', counting)
    return counts


def config_of(**train):
    config = classifier_config(**train)
    config |= {'method': {'name': 'colours'}, 'model': {}, 'optim': {}}
    return config


def run_of(labels='label', **train):
    config = config_of(**train)
    config['data']['labels'] = labels
    return open_run(config)


def unknown(run, items):
    """The run with a source in which some items have no labels."""
    codes = {name: np.where(np.isin(np.arange(len(x)), items), -1, x) for name, x in run.source.codes.items()}
    source = run.source
    fake = type('Source', (), {'__getitem__': lambda self, i: source[i], '__len__': lambda self: len(source)})()
    known = ('attributes', 'keys', 'digest', 'columns')
    vars(fake).update({name: getattr(source, name) for name in known}, codes=codes)
    return dataclasses.replace(run, source=fake)


def state_of(run, step=0):
    return run.initial_state().replace(step=jnp.asarray(step, jnp.int32))


def by_hand(image):
    """Features at unit length of pictures [N, H, W, 3]."""
    x = image.astype(np.float64).mean((1, 2)) + 1
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def error_by_hand(run, held):
    """Over the held-out items whose first label is known, by those of the training items."""
    batches = run.batches()
    bank, queries = (batches.load(items[batches.label(items)[:, 0] >= 0]) for items in (run.items, held))
    found = np.argmax(by_hand(queries['image']) @ by_hand(bank['image']).T, 1)
    return np.mean(bank['label'][found, 0] != queries['label'][:, 0])


@pytest.mark.parametrize(
    'columns, bank, shown',
    [(1, 2000, 1), (2, 2000, 1), (5, 2000, 4), (5, 3, 3), (4, 1, 1)],
)
@pytest.mark.parametrize('labels', ['label', 'none'])
def test_a_sheet_shows_no_more_neighbours_than_there_are(monkeypatch, columns, bank, shown, labels):
    monkeypatch.setattr(retrieval, 'BANK', bank)
    run = run_of(labels, grid_columns=columns, grid_rows=3)
    sheet = Retrieval(run, run.batches()).sheet(state_of(run))
    names = Preview.of(run, run.batches(), run.held_out).names
    blank = np.zeros((3 * (1 + shown), 16, 16, 3), np.uint8)
    assert sheet.shape == grid(blank, 1 + shown, names).shape


def test_the_nearest_come_first():
    run = run_of('none', grid_columns=3, grid_rows=2)
    batches = run.batches()
    bank = batches.load(run.items)['image']
    queries = batches.load(np.resize(run.held_out, 6))['image'][:2]
    order = np.argsort(-by_hand(queries) @ by_hand(bank).T, 1, kind='stable')[:, :2]
    expected = grid(np.concatenate([queries[:, None], bank[order]], 1).reshape(-1, 16, 16, 3), 3)
    assert np.array_equal(Retrieval(run, batches).sheet(state_of(run)), expected)


def test_pictures_are_loaded_once_and_only_when_needed(loaded):
    run = run_of()
    found = Retrieval(run, run.batches())
    assert not loaded
    found.sheet(state_of(run))
    assert max(loaded) == len(run.items) and len(loaded) == 2  # the bank and the queries
    found.sheet(state_of(run, 1))
    assert len(loaded) == 2


def test_features_of_the_bank_are_kept_for_a_step(monkeypatch):
    run = run_of()
    found, computed = Retrieval(run, run.batches()), []
    features = found._features
    monkeypatch.setattr(found, '_features', lambda state, image: computed.append(len(image)) or features(state, image))
    held = run.batches().load(run.held_out[:16])
    count = lambda: sum(n == len(run.items) for n in computed)
    first = found.sheet(state_of(run))
    assert found.error(state_of(run), [held]) == found.error(state_of(run), [held]) and count() == 1
    assert np.array_equal(found.sheet(state_of(run)), first) and count() == 1
    found.sheet(state_of(run, 1))
    assert count() == 2


def test_a_wrong_figure_is_refused_without_a_picture(loaded):
    with pytest.raises(UserError, match=r"no figure is called 'nearest_eror'; did you mean 'nearest_error'"):
        describe(config_of(stop_on='nearest_eror'))
    assert not loaded


def test_held_out_pictures_are_loaded_a_batch_at_a_time(loaded):
    run = run_of()
    validator = Validator(run, run.batches())
    figures = validator(state_of(run))
    assert sorted(set(loaded)) == [8, 16, len(run.items)] and loaded.count(len(run.items)) == 1  # 40 by 16
    assert figures['nearest_error'] == pytest.approx(error_by_hand(run, validator._items))
    assert 0 < figures['nearest_error'] < 1


def test_pictures_without_a_label_do_not_count():
    labelled = run_of()
    run = unknown(labelled, np.concatenate([labelled.items[::2], labelled.held_out[::3], labelled.held_out[:16]]))
    validator = Validator(run, run.batches())
    figures, held = validator(state_of(run)), validator._items
    known = held[run.batches().label(held)[:, 0] >= 0]
    assert 0 < len(known) < len(held)
    assert figures['nearest_error'] == pytest.approx(error_by_hand(run, known))
    expected = run.batches().load(known)['image'].astype(np.float64).mean()
    assert figures['loss'] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('part, left', [('held_out', set()), ('items', {'loss'})])
def test_without_known_labels_figures_of_labels_are_left_out(part, left):
    run = run_of()
    run = unknown(run, getattr(run, part))
    validator = Validator(run, run.batches())
    assert set(validator(state_of(run))) == left
    config = dataclasses.replace(run.config, train=dataclasses.replace(run.config.train, stop_on='nearest_error'))
    stopping = dataclasses.replace(run, config=config)
    with pytest.raises(UserError, match=r"train\.stop_on: no figure is called 'nearest_error'"):
        Validator(stopping, stopping.batches())


def test_a_figure_to_stop_on_that_is_never_measured_is_refused():
    run = run_of(stop_on='loss')
    run = unknown(run, run.held_out)
    with pytest.raises(UserError, match=r"train\.stop_on: 'loss' needs held-out pictures with a known label"):
        Validator(run, run.batches())(state_of(run))


@pytest.mark.parametrize('labels', ['label', 'none'])
def test_a_figure_that_is_not_finite_is_not_left_out(monkeypatch, labels):
    run = run_of(labels)
    run = unknown(run, run.held_out[:20])

    def failing(self, state, batch, rng):
        value = jnp.ones(len(batch['image']))
        return {'loss': jnp.where(batch['seed'] == 39, jnp.nan, value), 'far': value / state.step.astype(jnp.float32)}

    monkeypatch.setattr(Colours, 'evaluate', failing)
    figures = Validator(run, run.batches())(state_of(run))
    assert np.isnan(figures['loss']) and figures['far'] == np.inf


def test_a_classifier_of_labelled_pictures_has_finite_figures():
    labelled = open_run(classifier_config())
    state = labelled.initial_state()
    every = Validator(labelled, labelled.batches())(state)
    assert set(every) == {'loss', 'error', 'nearest_error'} and np.isfinite(list(every.values())).all()
    run = unknown(labelled, labelled.held_out[:40])
    validator = Validator(run, run.batches())
    part = validator(state)
    held = validator._items
    known = run.batches().load(held[run.batches().label(held)[:, 0] >= 0])
    expected = run.method.evaluate(state, known, jax.random.key(0))
    assert 0 < len(known['image']) < len(held)
    assert all(part[name] == pytest.approx(float(expected[name].mean()), rel=1e-4) for name in expected)
