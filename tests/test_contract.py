"""What every method promises, for every config, with networks small enough to compile in seconds."""

import functools
import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import full, open_run

from productgen.core.rng import stream
from productgen.core.sharding import jit_update, put_batch
from productgen.methods.base import Generates, Metric, Restores, Translates
from productgen.nets.features import efficientnet
from productgen.published import perceptual

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parent.parent / 'configs').glob('*.py')
    if path.stem not in ('__init__', 'common', 'from_workdir')
)
CONFIGS += ['classifier:simclr', 'restore:gan']

# Widths and depths of the networks, by the name of the model, or of the method where it has one model only.
TRANSLATION = {'width': 4, 'discriminator_width': 4, 'discriminator_layers': 1}
UNET = {'channels': 4, 'multipliers': '1', 'attention': ''}
VAE = {'z_dim': 4, 'channels': 4, 'channel_max': 8, 'groups': 2}
MODELS = {
    'mlp': {'z_dim': 4, 'generator_width': 8, 'discriminator_width': 8, 'embed': 4},
    'dcgan': {'z_dim': 4, 'width': 4, 'max_width': 8, 'embed': 4},
    'sngan': {
        'z_dim': 4,
        'generator_width': 4,
        'generator_max': 8,
        'discriminator_width': 4,
        'discriminator_max': 8,
        'down_blocks': 1,
    },
    'stylegan2': {'z_dim': 4, 'w_dim': 4, 'channel_base': 64, 'channel_max': 8, 'mapping_layers': 1},
    'r3gan': {'z_dim': 4, 'channel_base': 64, 'channel_max': 8, 'group': 4},
    'projected_fastgan': {'z_dim': 4, 'width': 1, 'layers': 1, 'projection_width': 1},
    'nafnet': {'width': 4, 'encoder': '1', 'middle': 1, 'decoder': '1'},
    'vae': VAE,
    'vaegan': VAE,
    'vqvae': {
        'levels': 1,
        'width': 8,
        'blocks': 1,
        'residual_width': 4,
        'codes': 8,
        'code_width': 4,
        'prior': {'width': 8, 'layers': 1, 'heads': 2},
    },
    'pix2pix': TRANSLATION,
    'cyclegan': TRANSLATION | {'blocks': 1},
    'cut': TRANSLATION | {'blocks': 1, 'features': 4},
    'diffusion': UNET,
    'latent_diffusion': {'unet': UNET, 'vae': VAE | {'downsampling': 2, 'blocks': 0}},
    'classifier': {'width': 8, 'blocks': '1,1'},
    'simclr': {'width': 8, 'blocks': '1,1'},
}
SMALLEST = ('r3gan', 'stylegan2')  # their networks have blocks of every size from 4 x 4 up
STATIC = {'denoising_steps': 3, 'reverse': True}  # values of the knobs that are part of the program
PROBE = {'probe': np.arange(3, dtype=np.float32)}  # frozen weights that no method reads


def flat(section, prefix):
    """Nested dicts as overrides by field."""
    found = {}
    for name, value in section.items():
        field = f'{prefix}.{name}'
        found |= flat(value, field) if isinstance(value, dict) else {field: value}
    return found


def filled(shapes):
    """Weights of these shapes: random kernels, and norms that change nothing."""
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        if len(leaf.shape) > 1:
            return rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype(leaf.dtype)
        return np.full(leaf.shape, path[-1].key in ('gain', 'var'), leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def tiny(name):
    """A config for pictures of 16 x 16 or 8 x 8 and small batches, as plain dicts."""
    name, _, arg = name.partition(':')
    config = full(importlib.import_module(f'configs.{name}').get_config(','.join(filter(None, [arg, 'quick']))))
    method = config['method']
    model = config['model'].get('name', method['name'])
    changes = {
        'data.resolution': '8' if model in SMALLEST else '16',
        'data.catalog_items': 64,
        'data.labels': 'background',
        'train.duration': '100steps',
        'train.batch_size': 4 * max(method.get('critic_steps', 1), 2),
    }
    return full(config, **changes, **flat(MODELS[model], 'model'))


@pytest.fixture(scope='module', autouse=True)
def shallow():
    """Published networks with one block a stage, which are compiled sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceptual, 'LEVELS', {'relu1_2': (1.0, 44.0)})
        patch.setattr(efficientnet, 'STAGES', tuple((1, *stage[1:]) for stage in efficientnet.STAGES))
        yield


class Case:
    """A method on pictures of the catalog, and its programs."""

    def __init__(self, name):
        self.run = open_run(tiny(name), devices=1, training=False)
        self.method, self.batches = self.run.method, self.run.batches()
        self.frozen = {name: filled(w.shapes) for name, w in self.method.frozen().items()} | PROBE
        self.init = jax.jit(self.method.init)
        self.state = jax.eval_shape(self.init, jax.random.key(0), self.method.inputs(), self.frozen)
        shapes = self.state, self.method.inputs(), jax.random.key(0)
        self.update = jit_update(self.method.update, self.run.mesh).lower(*shapes).compile()
        fixed = {knob.name: STATIC[knob.name] for knob in getattr(self.method, 'knobs', ()) if knob.static}
        self.moving = [knob for knob in getattr(self.method, 'knobs', ()) if not knob.static]
        self.translates = isinstance(self.method, Translates)
        self.make = self.method.translate if self.translates else getattr(self.method, 'generate', None)
        self.generate = jax.jit(lambda state, batch, key, knobs: self.make(state, batch, key, fixed | knobs))

    def start(self, seed=0):
        return self.init(stream(jax.random.key(seed), 'init'), self.batches[0], self.frozen)

    @functools.cached_property
    def initial(self):
        """The state at step 0, on the host."""
        return jax.device_get(self.start())

    def train(self, state, steps, seed=0):
        metrics = []
        for step in steps:
            batch = put_batch(self.run.mesh, self.batches[step])
            state, values = self.update(state, batch, stream(jax.random.key(seed), 'update'))
            metrics.append(jax.device_get(values))
        return state, metrics

    def rows(self, seeds):
        """What a request for pictures holds: seeds with the same label, or with the pictures of these items."""
        batch = {'seed': np.asarray(seeds, np.int32), 'label': np.zeros((len(seeds), len(self.run.labels)), np.int32)}
        if isinstance(self.method, Restores):
            batch['input'] = self.batches.load(np.asarray(seeds), ['image'])['image']
        elif self.translates:
            batch['input'] = self.batches.load(np.asarray(seeds), ['input'])['input']
        return batch

    def images(self, state, seeds, **knobs):
        """Images of `rows`; knobs that are not given are arrays of their defaults."""
        count, batch = len(seeds), self.rows(seeds)
        arrays = {k.name: np.asarray(knobs.get(k.name, [k.default] * count), np.float32) for k in self.moving}
        return np.asarray(self.generate(state, batch, jax.random.key(7), arrays))


@pytest.fixture(
    scope='module', params=[pytest.param(name, marks=pytest.mark.xdist_group(f'contract_{name}')) for name in CONFIGS]
)
def case(request):
    """One test process takes all tests of a case, so that it is compiled once."""
    return Case(request.param)


@pytest.fixture(scope='module')
def halfway(case):
    """The state on the host after two updates."""
    return jax.device_get(case.train(case.start(), range(2))[0])


@pytest.fixture(scope='module')
def trained(case):
    """The state on the host after four updates, and its metrics."""
    state, metrics = case.train(case.start(), range(4))
    return jax.device_get(state), metrics


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_batches_are_what_the_method_names(case):
    kind = lambda tree: {name: (x.shape, x.dtype) for name, x in tree.items()}
    assert kind(case.batches[0]) == kind(case.method.inputs())


def test_structure_shapes_and_types_are_stable(case, trained):
    kind = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert kind(case.initial) == kind(trained[0])


def test_every_parameter_moves(case, trained):
    before = leaves({name: net.params for name, net in case.initial.nets.items()})
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


def test_frozen_weights_are_part_of_the_state_and_do_not_move(case, trained):
    assert same(case.state.frozen, jax.eval_shape(lambda: case.frozen))
    assert same(case.initial.frozen, case.frozen)
    assert same(trained[0].frozen, case.frozen)


def test_averages_lag_behind_the_weights(case, trained):
    start = case.initial
    for name, net in trained[0].nets.items():
        if net.ema is not None:
            moved = [
                np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (net.ema, start.nets[name].params)), strict=True)
            ]
            assert any(moved), name
            assert not same(net.ema, net.params), name


def test_step_counts_updates(trained):
    assert int(trained[0].step) == 4


def test_metrics_are_finite_scalars_with_weights_under_the_same_names(trained):
    for metrics in trained[1]:
        assert metrics.keys() == trained[1][0].keys() and metrics
        for name, metric in metrics.items():
            assert isinstance(metric, Metric), name
            assert all(np.shape(x) == () and x.dtype == np.float32 for x in metric), name
            assert np.isfinite(metric.value) and metric.weight in (0, 1), name
    # Step 0 is a multiple of every interval.
    assert all(metric.weight == 1 for metric in trained[1][0].values())


def test_resuming_from_the_host_equals_no_interruption(case, halfway, trained):
    state = case.train(jax.tree.map(jnp.asarray, halfway), range(2, 4))[0]
    assert same(jax.device_get(state), trained[0])


def test_another_seed_gives_other_weights(case, halfway):
    other = jax.device_get(case.train(case.start(seed=1), range(2), seed=1)[0])
    for name, net in other.nets.items():
        assert not same(net.params, halfway.nets[name].params), name


def test_samples_are_images_that_depend_on_their_own_seed_only(case, trained):
    if not isinstance(case.method, Generates | Translates):
        pytest.skip('makes no pictures')
    image, again = case.images(trained[0], [0, 1, 2, 3]), case.images(trained[0], [9, 1, 8, 3])
    assert image.shape == (4, *case.run.problem.resolution, 3) and np.abs(image).max() <= 1
    assert np.array_equal(image[[1, 3]], again[[1, 3]])
    assert not np.array_equal(image[0], again[0])


def test_knobs_apply_row_by_row(case, trained):
    knobs = getattr(case.method, 'knobs', ())
    for knob in knobs:
        assert knob.low <= knob.default <= knob.high, knob
        assert hasattr(case.run.config.sample, knob.name)
    assert isinstance(case.method, Generates) <= bool(knobs) <= isinstance(case.method, Generates | Translates)
    usual = case.images(trained[0], range(4)) if knobs else None
    for knob in case.moving:
        mixed = case.images(trained[0], range(4), **{knob.name: [knob.default, knob.low, knob.default, knob.low]})
        assert np.array_equal(mixed[::2], usual[::2]) and np.isfinite(mixed).all(), knob
        assert not np.array_equal(mixed[1::2], usual[1::2]), knob


def test_a_missing_knob_has_its_default(case, trained):
    if not isinstance(case.method, Generates | Translates):
        pytest.skip('makes no pictures')
    batch = case.rows(range(2))
    generate = lambda knobs: case.make(trained[0], batch, jax.random.key(7), knobs)
    program, missing = (
        jax.make_jaxpr(lambda knobs=knobs: generate(knobs))()
        for knobs in ({knob.name: knob.default for knob in case.method.knobs}, {})
    )
    assert [x.shape for x in program.out_avals] == [(2, *case.run.problem.resolution, 3)] and str(program) == str(
        missing
    )
