"""Path lengths of generators whose paths are known."""

import dataclasses
import pathlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import ROOT, tiny_config

from productgen.core.checkpoint import Checkpoints
from productgen.core.rng import sample_keys, streams
from productgen.core.sharding import make_mesh
from productgen.data.facts import Facts
from productgen.data.labels import LabelTable
from productgen.evaluation import generator
from productgen.evaluation.generator import path_length
from productgen.methods.base import HasLatents
from productgen.model.config import resolve
from productgen.model.prepared import prepare
from productgen.model.trained import Trained
from productgen.model.workdir import write_workdir


@dataclasses.dataclass(frozen=True)
class Linear:
    """Paints A w: along a straight line pictures change by A (w' - w), everywhere alike."""

    matrix: np.ndarray
    num_latents: int = 1

    def draw(self, keys):
        return jax.vmap(lambda key: jax.random.normal(key, self.matrix.shape[1:]))(keys)

    def latents(self, state, z, label, truncation):
        return (truncation[:, None] * z)[:, None]

    def synthesize(self, state, ws, keys):
        return (ws[:, 0] @ self.matrix.T).reshape(-1, 4, 4, 3)


@pytest.mark.parametrize('truncation', [1.0, 0.5])
def test_a_linear_generator_has_the_length_of_its_differences(truncation, monkeypatch):
    method = Linear(np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32) / 20)
    table = LabelTable({}, np.zeros((1, 0), np.int32), np.asarray([1]))
    model = SimpleNamespace(
        method=method, mesh=make_mesh(), config=SimpleNamespace(seed=3), facts=SimpleNamespace(labels=table)
    )

    def open_ensemble(workdir, settings, *, one, float32):
        assert (workdir, settings, one, float32) == ('a run', 'its sample section', True, True)
        return SimpleNamespace(first=SimpleNamespace(model=model, state={}))

    monkeypatch.setattr(generator, 'open_ensemble', open_ensemble)
    distance = lambda a, b: np.sum(((a - b) / 127.5) ** 2, (1, 2, 3), dtype=np.float64)
    found = path_length('a run', 'its sample section', 101, truncation, distance, 20)
    # E |A (w' - w)|^2 of independent normal w and w' is 2 |A|^2: within five standard errors.
    expected = 2 * truncation**2 * np.sum(method.matrix**2)
    assert abs(found['path_length'] - expected) < 5 * found['path_length_error'] + 0.03 * expected


def test_methods_without_styles_have_no_paths():
    """`eval.path_pairs` is refused for these, see test_evaluate.py."""
    assert isinstance(Linear(np.zeros((48, 3))), HasLatents) and not isinstance(SimpleNamespace(), HasLatents)


def test_the_other_end_is_another_latent():
    keys = sample_keys(jax.random.key(0), jnp.arange(4))
    draw = Linear(np.zeros((48, 3))).draw
    assert jnp.abs(draw(keys) - draw(streams(keys, 'other end'))).min() > 1e-4


@pytest.fixture(scope='module')
def half(tmp_path_factory):
    """Workdir of a StyleGAN2 whose finest level computes in bfloat16; its weights are zeros."""
    workdir = tmp_path_factory.mktemp('half') / 'run'
    config = resolve(tiny_config(model__bf16_levels=1, data__labels='none'))
    facts = Facts.assumed(False, {'image': (16, 16, 3)})
    write_workdir(workdir, config, facts, {})
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), prepare(config, facts, devices=1).abstract()[0])
    checkpoints = Checkpoints(workdir, keep=2)
    checkpoints.save(state, {'seconds': 0.0, 'images': 0, 'first_stage': 0})
    checkpoints.close()
    return workdir


@pytest.mark.parametrize('float32', [False, True])
def test_paths_are_computed_in_float32_whatever_the_config_says(half, float32):
    """The differences of the two pictures of a path are below the resolution of bfloat16."""
    trained = Trained.open(half, float32=float32)
    method = trained.model.method

    def paint(state, seed, label, key):
        keys = sample_keys(key, seed)
        return method.synthesize(state, method.latents(state, method.draw(keys), label, 1.0), keys)

    given = trained.state, np.arange(2, dtype=np.int32), np.zeros((2, 0), np.int32), jax.random.key(0)
    assert ('bf16' in str(jax.make_jaxpr(paint)(*given))) != float32


def test_how_a_method_computes_in_fewer_bits_is_its_own_matter():
    """Everything that is not a method or its networks uses `Problem.float32`."""
    files = [path for path in pathlib.Path(ROOT, 'productgen').rglob('*.py')]
    others = [path for path in files if path.parent.name not in ('models', 'nets')]
    assert len(others) > 50 and not [path for path in others if 'bf16_levels' in path.read_text()]
