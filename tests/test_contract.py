"""What every method promises, for every method and its quick config."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from productgen.config import to_dict
from productgen.core.rng import stream
from productgen.core.sharding import jit_update, put_batch
from productgen.methods import METHODS, Problem, Sampling

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parent.parent / 'configs').glob('*.py')
    if path.stem not in ('__init__', 'common', 'from_workdir')
)
# The methods and networks of these have a case already, under other settings, or in two halves (`vae` and `ddpm`); they
# take their time with -m slow.
SIMILAR = ('acgan', 'beta_vae', 'cgan', 'cvae', 'dragan', 'latent_diffusion', 'lsgan', 'sngan', 'wgan', 'wgan_gp')
LABELS = (3,)


class Case:
    """A method at the nets of its quick config, on noise of 16 x 16 pixels so that an update takes milliseconds."""

    def __init__(self, name):
        config = to_dict(importlib.import_module(f'configs.{name}').get_config('quick'))
        self.size = config['train']['batch_size']
        self.method = METHODS[config['method']['name']](config, Problem((16, 16), LABELS, self.size, 1, 100))
        draw = np.random.default_rng(0)
        self.batches = [
            {
                'image': draw.integers(0, 256, (self.size, 16, 16, 3), np.uint8),
                'label': draw.integers(0, LABELS[0], (self.size, 1), np.int32),
            }
            for _ in range(4)
        ]
        self.mesh = jax.make_mesh((1,), ('data',), axis_types=(AxisType.Auto,))
        self.init = jax.jit(self.method.init)
        update = jit_update(self.method.update, self.mesh)
        self.state = jax.eval_shape(self.start)
        self.update = update.lower(self.state, self.batches[0], jax.random.key(0)).compile()
        self.sample = jax.jit(self.method.sample) if isinstance(self.method, Sampling) else None

    def start(self, seed=0):
        return self.init(stream(jax.random.key(seed), 'init'), self.batches[0])

    def run(self, state, steps, seed=0):
        metrics = []
        for step in steps:
            batch = put_batch(self.mesh, self.batches[step % len(self.batches)])
            state, values = self.update(state, batch, stream(jax.random.key(seed), 'update'))
            metrics.append(jax.device_get(values))
        return state, metrics


def marks(name):
    """One test process takes all tests of a case, so that it is compiled once."""
    return [pytest.mark.xdist_group(name), *([pytest.mark.slow] if name in SIMILAR else [])]


@pytest.fixture(scope='module', params=[pytest.param(name, marks=marks(name)) for name in CONFIGS])
def case(request):
    return Case(request.param)


@pytest.fixture(scope='module')
def trained(case):
    """The state on the host after four updates, and its metrics."""
    state, metrics = case.run(case.start(), range(4))
    return jax.device_get(state), metrics


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_structure_shapes_and_types_are_stable(case, trained):
    kind = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert kind(case.start()) == kind(trained[0])


def test_every_parameter_moves(case, trained):
    before = leaves({name: net.params for name, net in case.start().nets.items()})
    after = leaves({name: net.params for name, net in trained[0].nets.items()})
    still = {name for name in before if np.array_equal(before[name], after[name])}
    if getattr(getattr(case.method, 'config', None), 'loss', None) in ('wasserstein', 'relativistic'):
        # Such losses see differences of logits only: a constant added to all of them has no gradient.
        still -= {name for name in still if 'discriminator' in name and name.endswith("['logit']['bias']")}
    assert not still


def test_an_update_keeps_no_copy_of_the_state(case):
    sizes = [x.size * x.dtype.itemsize for x in jax.tree.leaves(case.state)]
    # Counters that always agree may become one array, which can take the place of only one of them.
    assert case.update.memory_analysis().alias_size_in_bytes >= sum(size for size in sizes if size > 4)


def test_frozen_weights_do_not_move(case, trained):
    assert same(jax.device_get(case.start().frozen), trained[0].frozen)


def test_averages_lag_behind_the_weights(case, trained):
    start = case.start()
    for name, net in trained[0].nets.items():
        if net.ema is not None:
            moved = [
                np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (net.ema, start.nets[name].params)), strict=True)
            ]
            assert any(moved), name
            assert not same(net.ema, net.params), name


def test_step_counts_updates(trained):
    assert int(trained[0].step) == 4


def test_metrics_are_finite_scalars_under_the_same_names(trained):
    for metrics in trained[1]:
        assert metrics.keys() == trained[1][0].keys()
        for name, value in metrics.items():
            assert np.shape(value) == () and np.isfinite(value), name


def test_going_on_from_the_host_equals_no_interruption(case, trained):
    halfway = jax.device_get(case.run(case.start(), range(2))[0])
    state = case.run(jax.tree.map(jnp.asarray, halfway), range(2, 4))[0]
    assert same(jax.device_get(state), trained[0])


def test_another_seed_gives_other_weights(case, trained):
    other = jax.device_get(case.run(case.start(seed=1), range(4), seed=1)[0])
    for name, net in other.nets.items():
        assert not same(net.params, trained[0].nets[name].params), name


def test_samples_are_images_that_depend_on_their_own_seed_alone(case, trained):
    if not case.sample:
        pytest.skip('makes no pictures')
    label = np.zeros((4, 1), np.int32)
    key = jax.random.key(7)
    first = case.sample(trained[0], {'seed': np.arange(4, dtype=np.int32), 'label': label}, key)
    other = case.sample(trained[0], {'seed': np.array([9, 1, 8, 3], np.int32), 'label': label}, key)
    for name, image in first.items():
        image, again = np.asarray(image), np.asarray(other[name])
        assert image.shape == (4, 16, 16, 3) and np.abs(image).max() <= 1, name
        assert np.array_equal(image[[1, 3]], again[[1, 3]]), name
        assert not np.array_equal(image[0], again[0]), name
