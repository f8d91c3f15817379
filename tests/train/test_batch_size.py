"""A run that is resumed with another batch size counts its images: nothing runs backwards or is overwritten."""

import json

import jax.numpy as jnp
import pytest
from tiny import open_run, tiny_config, train
from toy import FAMILY, Toy, toy_config

from productgen.core.checkpoint import Checkpoints
from productgen.data.pipeline import Batches
from productgen.methods import METHODS
from productgen.methods.base import Stage
from productgen.model.prepared import after_images
from productgen.model.trained import Trained
from productgen.train.record import _kimg

pytestmark = pytest.mark.usefixtures('toy')
EVERY = {f'train__{name}_every': '2steps' for name in ('log', 'sample', 'checkpoint')}


def notes(workdir):
    step = max(Checkpoints(workdir, writing=False).steps())
    return step, json.loads((workdir / 'checkpoints' / str(step) / 'notes' / 'metadata').read_text())


def points(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


@pytest.fixture
def starts(monkeypatch):
    """The batches that trainings began with, and the problems that methods were built for."""
    found, iterate = [], Batches.iterate
    monkeypatch.setattr(Batches, 'iterate', lambda self, start: found.append(start) or iterate(self, start))
    return found


def test_images_are_counted_through_batch_sizes(tmp_path, starts):
    train(toy_config(train__duration='4steps', **EVERY), tmp_path)  # of 8 images
    before = {path.name: path.read_bytes() for path in (tmp_path / 'samples').iterdir()}
    train(toy_config(train__duration='0.048kimg', train__batch_size=4, **EVERY), tmp_path, accept_change=True)
    assert (notes(tmp_path)[0], notes(tmp_path)[1]['images']) == (8, 48)
    # The same batch size again: the same offset.
    train(toy_config(train__duration='0.056kimg', train__batch_size=4, **EVERY), tmp_path, accept_change=True)
    assert (notes(tmp_path)[0], notes(tmp_path)[1]['images']) == (10, 56)
    # A larger one: step x batch size would be ahead of the images.
    train(toy_config(train__duration='12steps', train__batch_size=16, **EVERY), tmp_path, accept_change=True)
    assert (notes(tmp_path)[0], notes(tmp_path)[1]['images']) == (12, 88)
    found = points(tmp_path)
    assert [round(1000 * point['kimg']) for point in found] == [16, 32, 40, 48, 56, 88]
    assert [point['step'] for point in found] == [2, 4, 6, 8, 10, 12]
    assert starts == [0, 32 // 4, 48 // 4, 56 // 16]
    sheets = {path.name: path.read_bytes() for path in (tmp_path / 'samples').glob('fakes_*')}
    assert all(sheets[name] == before[name] for name in before if name in sheets)
    kimg = '0000000.0', *(f'0000000.0{images}' for images in (16, 32, 40, 48, 56, 88))
    assert set(sheets) == {f'fakes_{k}kimg.png' for k in kimg}


def test_another_batch_size_without_more_images_is_a_complete_run(tmp_path):
    train(toy_config(train__duration='0.048kimg', **EVERY), tmp_path)
    config = toy_config(train__duration='0.048kimg', train__batch_size=4, **EVERY)
    assert train(config, tmp_path, accept_change=True).step == 6


def test_the_method_is_built_once_where_the_batch_size_is_the_same(tmp_path, monkeypatch):
    built = []
    make = lambda sections, problem: built.append(problem) or FAMILY.make(sections, problem)
    monkeypatch.setitem(METHODS, 'toy', type(FAMILY)(FAMILY.method, FAMILY.model, FAMILY.networks, make))
    train(toy_config(train__duration='4steps', **EVERY), tmp_path)
    once = len(built)
    train(toy_config(train__duration='4steps', **EVERY), tmp_path)
    assert len(built) == 2 * once and {problem.images_before for problem in built} == {0}
    train(toy_config(train__duration='48img', train__batch_size=4, **EVERY), tmp_path, accept_change=True)
    assert len(built) == 3 * once + 1 and built[-1].images_before == 16 and built[-1].steps == 8
    assert Trained.open(tmp_path).model.problem.images_before == 16
    assert Trained.open(tmp_path, 6).model.problem.images_before == 16


def test_the_best_checkpoint_knows_its_images(tmp_path):
    best = {'train__validate_every': '2steps', 'train__stop_on': 'loss', 'train__validate_items': 8}
    train(toy_config(train__duration='4steps', **EVERY, **best), tmp_path)
    fields = {**EVERY, **best, 'train__batch_size': 4}
    train(toy_config(train__duration='8steps', **fields), tmp_path, accept_change=True)
    trained = Trained.open(tmp_path, -1)
    assert trained.step > 4 and trained.model.problem.images_before == 16


def test_the_first_stage_is_that_of_the_images_to_come(tmp_path, monkeypatch):
    """It ended at step 2 of 4; it would end at step 4 of the 8 that the smaller batches take."""
    halves = property(lambda self: Stage(self.problem.steps // 2, 'method.half'))
    monkeypatch.setattr(Toy, 'first_stage', halves, raising=False)
    train(toy_config(train__duration='32img', **EVERY), tmp_path)
    with pytest.raises(ValueError, match=r'end at step 2, .* no longer end at 4; set method\.half to 0\.25,'):
        train(toy_config(train__duration='48img', train__batch_size=4, **EVERY), tmp_path, accept_change=True)


def test_labels_fade_in_by_images():
    config = tiny_config(method__transition_kimg='0->1', data__labels='label')
    run = open_run(config)
    later = after_images(run, 800, 10)
    assert later.problem.images_before == 720 and later.problem.images(11) == 808
    assert float(run.method.label_weight(jnp.int32(50))) == pytest.approx(0.4)
    assert float(later.method.label_weight(jnp.int32(10))) == pytest.approx(0.8)
    assert after_images(run, 80, 10) is run and after_images(later, 808, 11) is later


def test_every_number_of_images_has_its_own_name():
    assert [_kimg(n) for n in (0, 5000, 5100, 5016, 80, 1_000_000)] == [
        '0000000.0kimg', '0000005.0kimg', '0000005.1kimg', '0000005.016kimg', '0000000.080kimg', '0001000.0kimg'
    ]  # fmt: skip
