"""Parts of methods: averaged training steps, and stages."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from productgen.config import UserError
from productgen.core.rng import sample_keys
from productgen.core.state import create_net
from productgen.methods import Problem
from productgen.methods.base import Metric, weighted
from productgen.methods.parts.averaging import keyed, step_averaged
from productgen.methods.parts.denoiser import DenoiserConfig
from productgen.methods.parts.stages import first_stage_steps, when

PROBLEM = Problem((4, 4), (), batch_size=10, accumulate=2, steps=10)


def test_the_average_follows_the_step_with_the_decay_of_its_own_number():
    section = DenoiserConfig(ema_kimg=0.1, ema_rampup=0.5)  # half-lives in images: 100, or half of those seen
    net = create_net({'w': jnp.ones(3)}, optax.sgd(0.5), ema=True)
    batch = {'x': jnp.arange(30.0).reshape(10, 3)}

    def loss(params, stats, batch):
        value = jnp.mean(jnp.sum(params['w'] * batch['x'], 1))
        return value, (stats, {'loss': value})

    step = lambda n: step_averaged(net, optax.sgd(0.5), loss, batch, problem=PROBLEM, section=section, step=n)
    for done, half_life in ((0, 5), (9, 50), (500, 100)):
        new, metrics = step(done)
        gradient = np.mean(batch['x'], 0)
        np.testing.assert_allclose(new.params['w'], 1 - 0.5 * gradient, rtol=1e-6)
        decay = 0.5 ** (10 / half_life)
        np.testing.assert_allclose(new.ema['w'], decay + (1 - decay) * new.params['w'], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(metrics['grad_norm'], np.linalg.norm(gradient), rtol=1e-6)
        np.testing.assert_allclose(metrics['loss'], np.sum(gradient), rtol=1e-6)


def test_a_keyed_batch_has_floats_and_the_keys_of_its_indices():
    batch = {'image': np.full((3, 4, 4, 3), 255, np.uint8), 'label': np.zeros((3, 1), np.int32)}
    indices = jnp.asarray([5, 0, 7])
    rows = keyed(batch, jax.random.key(1), indices)
    assert rows['label'] is batch['label'] and np.all(rows['image'] == 1)
    assert np.all(rows['key'] == sample_keys(jax.random.key(1), indices))


def test_a_step_that_is_not_due_changes_nothing_and_its_metrics_have_weight_0():
    step = lambda: ({'w': jnp.ones(2)}, weighted({'loss': jnp.asarray(3.0)}))
    rest = {'w': jnp.zeros(2)}
    run = jax.jit(lambda due: when(due, step, rest))
    for due in (True, False):
        new, metrics = run(due)
        np.testing.assert_array_equal(new['w'], [due, due])
        assert metrics == {'loss': Metric(3.0 * due, float(due))}
    new, metrics = when(True, step, None)
    assert metrics['loss'].weight == 1 and np.all(new['w'] == 1)


@pytest.mark.parametrize('fraction, steps', [(0.0, 0), (0.35, 4), (0.01, 1), (0.99, 9)])
def test_both_stages_have_an_update_at_least(fraction, steps):
    assert first_stage_steps(fraction, PROBLEM, 'method.x') == steps


def test_a_fraction_needs_a_number_of_updates():
    endless = Problem((4, 4), (), batch_size=10, steps=None)
    assert first_stage_steps(0.0, endless, 'method.x') == 0
    with pytest.raises(UserError, match=r'^method\.x: .*train\.duration in images.* 0\.0'):
        first_stage_steps(0.5, endless, 'method.x')
