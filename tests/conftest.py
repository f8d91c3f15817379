"""Shared by all tests: one compilation of each program, float64, and what several evaluations need."""

import functools
import gc
import os
import pathlib

# Tests compile a lot and compute little: unoptimised code is ready two to five times sooner, and without the newer way
# of generating code for fusions in half of that again; more processes run than there are cores, so that code in several
# parts only costs more. Read at XLA's start.
QUICK = (
    ' --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
)
os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + QUICK
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
CACHE = pathlib.Path(__file__).resolve().parent.parent / '.pytest_cache' / 'productgen'
os.environ['PRODUCTGEN_CACHE'] = str(CACHE)

import types  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# Test processes and the programs they start share what one of them has compiled.
jax.config.update('jax_compilation_cache_dir', str(CACHE / 'compiled'))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
# An int32 and a float32, or a bfloat16 and a float32, meet only where the code says so.
jax.config.update('jax_numpy_dtype_promotion', 'strict')

# Tracing makes objects by the million and hardly any garbage: searching them for cycles is a part of its time.
gc.freeze()
gc.set_threshold(200_000)


@pytest.hookimpl(wrapper=True)  # to be before xdist, which reads the marks
def pytest_collection_modifyitems(items):
    """One test process takes all tests of a file, which share what takes long to make, but where they name a group."""
    for item in items:
        if not item.get_closest_marker('xdist_group'):
            item.add_marker(pytest.mark.xdist_group(item.path.parent.stem + item.path.stem))
    return (yield)


@pytest.fixture(scope='module')
def once():
    """What runs and evaluations share is made once: pictures, networks of features, figures of pairs, alignments."""
    from productgen.data.catalog import scene
    from productgen.evaluation import copies, figures, plan

    found, align = {}, copies.align

    def aligned(first, second, progress=None):
        key = first.tobytes(), second.tobytes()
        if key not in found:
            found[key] = align(first, second, progress)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        for module, name in (scene, 'render'), (plan, 'open_features'), (figures, 'pair_distances'):
            patch.setattr(module, name, functools.cache(getattr(module, name)))
        patch.setattr(copies, 'align', aligned)
        yield


@pytest.fixture(scope='module')
def toy():
    """The method of toy.py is one of METHODS."""
    from toy import FAMILY

    from productgen.methods import METHODS

    METHODS['toy'] = FAMILY
    yield
    del METHODS['toy']


@pytest.fixture(autouse=True)
def same_draws(request, monkeypatch):
    """Tests of a file that draw from one generator get the same numbers whichever of them ran before."""
    if hasattr(request.module, 'DRAW'):
        monkeypatch.setattr(request.module, 'DRAW', np.random.default_rng(0))


@pytest.fixture
def x64():
    """Arrays default to float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def float64(monkeypatch, x64):
    """float64 also where the networks and penalties say float32, so that finite differences tell something."""
    from productgen.losses import penalties
    from productgen.nets import layers, stylegan2

    wide = types.SimpleNamespace(**{**vars(jnp), 'float32': jnp.float64})
    for module in (layers, penalties, stylegan2):
        monkeypatch.setattr(module, 'jnp', wide)
