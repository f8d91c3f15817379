"""A run stops at NaN and warns of collapse and saturation; a healthy run has no warnings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import tiny_gan_config, train

from productgen.core.checkpoint import Checkpoints
from productgen.core.state import State, create_net
from productgen.train.watch import CollapseWatch, NotFiniteError, SaturationWatch, check_finite, check_state


@pytest.fixture
def real():
    return np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)


LABEL = np.repeat([0, 1], 4)[:, None]


def test_finite_metrics_pass():
    check_finite(3, {'loss/a': 1.0}, None)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_metric_that_is_not_finite_is_an_error_with_step_term_and_checkpoint(value):
    with pytest.raises(NotFiniteError, match=r'step 7: loss/b = .*last good checkpoint is of step 4'):
        check_finite(7, {'loss/a': 1.0, 'loss/b': value}, 4)


def test_a_run_that_diverges_stops_before_it_saves_weights_that_are_not_finite(tmp_path):
    config = tiny_gan_config(
        optim__generator__learning_rate=1e30, train__duration='40steps', train__checkpoint_every='1steps'
    )
    with pytest.raises(NotFiniteError, match='Training stopped at step'):
        train(config, tmp_path / 'run')
    checkpoints = Checkpoints(tmp_path / 'run', writing=False)
    for step in checkpoints.steps():
        assert all(np.isfinite(array).all() for array in jax.tree.leaves(checkpoints.read_weights(step)))


@pytest.mark.parametrize('part', ['params', 'ema', 'stats'])
def test_a_state_that_is_not_finite_is_not_saved(part):
    net = create_net({'a': jnp.ones(2)}, optax.sgd(0.1), {'mean': jnp.zeros(3)}, ema=True)
    good = State(jnp.int32(7), {'net': net}, {}, {})
    check_state(good, None)
    bad = net.replace(**{part: jax.tree.map(lambda x: x.at[1].set(jnp.nan), getattr(net, part))})
    with pytest.raises(NotFiniteError, match=rf'step 7: net\.{part} = nan'):
        check_state(good.replace(nets={'net': bad}), None)


def test_real_pictures_have_the_diversity_of_real_pictures(real):
    watch = CollapseWatch(real, LABEL)
    value, warning = watch.samples(real)
    assert np.isclose(value, 1) and warning is None


def test_samples_that_become_alike_are_a_warning(real):
    watch = CollapseWatch(real, LABEL)
    alike = np.repeat(real[[0, 4]], 4, axis=0)
    assert watch.samples(alike)[1] is None  # a fresh generator makes one picture for each label: nothing fell
    assert watch.samples(real)[1] is None
    value, warning = watch.samples(alike)
    assert value == 0 and 'look alike' in warning


def test_a_resumed_run_remembers_its_diversity(real):
    alike = np.repeat(real[[0, 4]], 4, axis=0)
    assert 'look alike' in CollapseWatch(real, LABEL, best=0.9).samples(alike)[1]


def test_spread_between_labels_is_no_diversity(real):
    watch = CollapseWatch(real, LABEL)
    black_and_white = np.repeat(np.array([0, 255], np.uint8), 4)[:, None, None, None] * np.ones_like(real)
    assert watch.diversity(black_and_white) == 0


def test_a_saturated_discriminator_is_one_warning_after_several_log_lines():
    watch = SaturationWatch()
    saturated = {'sign/real': 1.0, 'sign/fake': -1.0}
    warnings = [watch(saturated) for _ in range(watch.PATIENCE + 3)]
    assert [text is not None for text in warnings].index(True) == watch.PATIENCE - 1
    assert sum(text is not None for text in warnings) == 1


def test_a_balanced_discriminator_is_no_warning():
    watch = SaturationWatch()
    assert all(watch({'sign/real': 0.6, 'sign/fake': -0.6}) is None for _ in range(20))


def test_a_balanced_line_starts_the_count_again():
    watch = SaturationWatch()
    saturated, balanced = {'sign/real': 1.0, 'sign/fake': -1.0}, {'sign/real': 1.0, 'sign/fake': -0.5}
    lines = [saturated] * (watch.PATIENCE - 1) + [balanced] + [saturated] * watch.PATIENCE
    assert [watch(line) is not None for line in lines] == [False] * (len(lines) - 1) + [True]


def test_methods_without_a_discriminator_have_no_such_metrics():
    assert all(SaturationWatch()({'loss/painter': 1.0}) is None for _ in range(20))
