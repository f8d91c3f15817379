"""Weights that are only read: they reach updates, are not saved, and are part of a run's record."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import open_run, train
from toy import FAMILY, Toy, make, toy_config

from productgen.config import UserError
from productgen.core.checkpoint import Checkpoints
from productgen.methods import METHODS
from productgen.methods.base import Frozen
from productgen.model.prepared import digest
from productgen.model.trained import Trained

PALETTE = {'colours': np.array([0.5, -0.25, 0.75], np.float32)}


@dataclasses.dataclass(frozen=True)
class Tinted(Toy):
    """A toy whose canvas moves towards the colour of frozen weights in every update."""

    palette: dict = dataclasses.field(default_factory=dict, hash=False)
    training_only: bool = False

    def frozen(self):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.palette)
        return {'palette': Frozen(shapes, self._load, self.training_only)}

    def _load(self):
        if not self.palette:
            raise UserError('weights', 'palette.pth is not installed')
        return self.palette

    def update(self, state, batch, rng):
        state, metrics = super().update(state, batch, rng)
        painter = state.nets['painter']
        canvas = 0.5 * painter.params['canvas'] + 0.5 * state.frozen['palette']['colours']
        painter = painter.replace(params=painter.params | {'canvas': canvas})
        return state.replace(nets=state.nets | {'painter': painter}), metrics


def register(patch, palette, **more):
    make_tinted = lambda sections, problem: Tinted(**vars(make(sections, problem)), palette=palette, **more)
    patch.setitem(METHODS, 'toy', dataclasses.replace(FAMILY, make=make_tinted))


@pytest.fixture(autouse=True)
def tinted(monkeypatch):
    register(monkeypatch, PALETTE)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('frozen') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        register(patch, PALETTE)
        train(toy_config(train__keep=9), workdir)
    return workdir


def canvas(workdir, step):
    return Checkpoints(workdir, writing=False).read_weights(step)[1]['painter']['params']['canvas']


def checksums(workdir, step=6):
    return json.loads((workdir / 'checkpoints' / str(step) / 'notes' / 'metadata').read_text())['checksums']


def test_they_reach_every_update(run):
    """Each update halves the distance, but for the step of the optimiser."""
    first, last = (np.abs(canvas(run, step).mean((0, 1)) - PALETTE['colours']).max() for step in (3, 6))
    assert last < first < 0.2 and last < 0.05


def test_they_are_not_in_checkpoints(run):
    assert checksums(run) and not [place for place in checksums(run) if 'frozen' in place or 'palette' in place]


def test_they_are_in_a_restored_state(run, monkeypatch):
    state = Trained.open(run).state
    assert jax.tree.all(jax.tree.map(np.array_equal, state.frozen, {'palette': PALETTE}))
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state.frozen))
    opened = open_run(toy_config())
    template = opened.abstract()[0]
    assert template.frozen['palette']['colours'].shape == (3,)
    restored, _ = Checkpoints(run, writing=False).restore(template)
    whole = opened.with_frozen(restored)
    assert np.array_equal(whole.frozen['palette']['colours'], PALETTE['colours'])
    update = opened.compile_update().result()
    batch = {name: jnp.asarray(x) for name, x in opened.batches()[6].items()}
    after = update(whole, batch, jax.random.key(0))[0]
    assert int(after.step) == 7 and np.array_equal(after.frozen['palette']['colours'], PALETTE['colours'])


def test_a_trained_model_does_without_those_of_the_training(run, monkeypatch):
    register(monkeypatch, {}, training_only=True)
    assert Trained.open(run).state.frozen == {}
    register(monkeypatch, {})
    with pytest.raises(UserError, match=r'palette\.pth is not installed'):
        Trained.open(run)


def test_a_missing_file_is_found_before_the_data_is_read(monkeypatch, tmp_path):
    register(monkeypatch, {}, training_only=True)
    with pytest.raises(UserError, match=r'palette\.pth is not installed'):
        train(toy_config(data__source=f'folder:{tmp_path / "nowhere"}'), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_their_digest_is_recorded(run):
    assert json.loads((run / 'data.json').read_text())['frozen'] == {'palette': digest(PALETTE)}
    assert re.fullmatch('[0-9a-f]{16}', digest(PALETTE))
    assert digest(PALETTE) != digest({'colours': PALETTE['colours'] + 1e-6}) != digest({'other': PALETTE['colours']})


def test_a_resumed_run_has_them_and_ends_with_the_same_bits(run, tmp_path):
    train(toy_config(train__duration='3steps'), tmp_path)
    train(toy_config(), tmp_path, accept_change=True)
    assert 'Resuming at step 3' in (tmp_path / 'log.txt').read_text()
    assert checksums(tmp_path) == checksums(run)


def test_other_weights_are_refused_by_name(tmp_path, monkeypatch):
    train(toy_config(train__duration='3steps'), tmp_path)
    before = (tmp_path / 'data.json').read_text()
    other = {'colours': PALETTE['colours'] + 0.5}
    register(monkeypatch, other)
    lines = f"weights: palette: '{digest(PALETTE)}' -> '{digest(other)}'"
    with pytest.raises(UserError, match=f'(?s)another config or other data.*{lines}.*--accept_config_change'):
        train(toy_config(train__duration='3steps'), tmp_path)
    assert (tmp_path / 'data.json').read_text() == before
    train(toy_config(train__duration='3steps'), tmp_path, accept_change=True)
    assert json.loads((tmp_path / 'data.json').read_text())['frozen'] == {'palette': digest(other)}
