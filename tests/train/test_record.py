"""Metrics in the log: means by weight, and metrics that were not due."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import train
from toy import FAMILY, Toy, make, toy_config

from productgen.methods import METHODS
from productgen.methods.base import Metric, weighted
from productgen.train.record import weighted_means


@dataclasses.dataclass(frozen=True)
class Lazy(Toy):
    """A toy with a term that is due in every fourth step, and one that weighs as much as the step's number."""

    def update(self, state, batch, rng):
        state, metrics = super().update(state, batch, rng)
        step = state.step.astype(jnp.float32)
        due = state.step % 4 == 0
        metrics |= weighted({'loss/lazy': jnp.where(due, 10 * step, 0.0)}, weight=due)
        return state, metrics | {'graded': Metric(step**2, step)}


@pytest.fixture
def lazy(monkeypatch):
    family = dataclasses.replace(FAMILY, make=lambda sections, problem: Lazy(**vars(make(sections, problem))))
    monkeypatch.setitem(METHODS, 'toy', family)


def points(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def test_metrics_are_means_by_weight_and_those_never_due_are_left_out(lazy, tmp_path):
    train(toy_config(train__duration='9steps', train__log_every='3steps', train__checkpoint_every='9steps'), tmp_path)
    found = points(tmp_path)
    assert [point['step'] for point in found] == [3, 6, 9]
    # Due at steps 4 and 8: one value each, not the mean with the zeros of other steps.
    assert [point.get('loss/lazy') for point in found] == [None, 40.0, 80.0]
    expected = [sum(k**3 for k in steps) / sum(steps) for steps in ((1, 2, 3), (4, 5, 6), (7, 8, 9))]
    assert [point['graded'] for point in found] == pytest.approx(expected)
    assert all(np.isfinite(point['loss/painter']) for point in found)


def test_points_of_a_resumed_run_are_those_of_an_uninterrupted_one(lazy, tmp_path):
    """A window of the log that a checkpoint divides begins again there: so it is without the interruption."""
    fields = {'train__log_every': '4steps', 'train__checkpoint_every': '6steps', 'train__keep': 9}
    train(toy_config(train__duration='12steps', **fields), tmp_path / 'once')
    train(toy_config(train__duration='6steps', **fields), tmp_path / 'twice')
    train(toy_config(train__duration='12steps', **fields), tmp_path / 'twice', accept_change=True)
    keep = lambda point: {name: x for name, x in point.items() if name in ('step', 'graded', 'loss/lazy')}
    once, twice = ([keep(point) for point in points(tmp_path / name)] for name in ('once', 'twice'))
    assert once == twice and [point['step'] for point in once] == [4, 6, 8, 12]
    assert [point.get('loss/lazy') for point in once] == [40.0, None, 80.0, 120.0]


def test_weighted_means_by_hand():
    metric = lambda value, weight: Metric(jnp.float32(value), jnp.float32(weight))
    rows = [
        {'a': metric(1, 1), 'b': metric(7, 0), 'c': metric(2, 1)},
        {'a': metric(2, 1), 'b': metric(8, 0), 'c': metric(6, 3)},
        {'a': metric(6, 1), 'b': metric(9, 0), 'c': metric(1, 0)},
    ]
    assert weighted_means(jax.device_get(rows)) == {'a': 3.0, 'c': 5.0}


def test_a_mean_is_of_double_precision():
    rows = [weighted({'a': value}) for value in (1e8, 1.0, -1e8)]
    assert weighted_means(jax.device_get(rows))['a'] == pytest.approx(1 / 3)
