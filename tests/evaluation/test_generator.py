"""Path lengths of generators whose paths are known."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.config import UserError
from productgen.core.rng import sample_keys, streams
from productgen.core.sharding import make_mesh
from productgen.data.labels import LabelTable
from productgen.evaluation.generator import check_paths, path_length


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
def test_a_linear_generator_has_the_length_of_its_differences(truncation):
    method = Linear(np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32) / 20)
    model = SimpleNamespace(
        method=method, mesh=make_mesh(), seed=3, table=LabelTable({}, np.zeros((1, 0), np.int32), np.asarray([1]))
    )
    ensemble = SimpleNamespace(members=((model, {}),), model=model)
    distance = lambda a, b: np.sum(((a - b) / 127.5) ** 2, (1, 2, 3), dtype=np.float64)
    found = path_length({'model': {}}, ensemble, 101, truncation, distance, 20)
    # E |A (w' - w)|^2 of independent normal w and w' is 2 |A|^2: within five standard errors.
    expected = 2 * truncation**2 * np.sum(method.matrix**2)
    assert abs(found['path_length'] - expected) < 5 * found['path_length_error'] + 0.03 * expected


def test_methods_without_styles_have_no_paths():
    with pytest.raises(UserError, match='no style latents'):
        check_paths(SimpleNamespace())
    check_paths(Linear(np.zeros((48, 3))))


def test_the_other_end_is_another_latent():
    keys = sample_keys(jax.random.key(0), jnp.arange(4))
    draw = Linear(np.zeros((48, 3))).draw
    assert jnp.abs(draw(keys) - draw(streams(keys, 'other end'))).min() > 1e-4
