"""Evaluation of a method that restores, on held-out pictures that it degrades."""

import json

import numpy as np
import pytest
from tiny import evaluate, full, open_run, train

from productgen.config import UserError
from productgen.evaluation.classical import CLASSICAL
from productgen.evaluation.restored import restored
from productgen.model.packed import open_packed, pack
from productgen.model.trained import Trained

pytestmark = pytest.mark.xdist_group('evaluation_restored')


def config(task, **overrides):
    """configs/restore.py with a network of two convolutions and pictures of 32 x 32 of the catalog."""
    from configs import restore

    small = restore.get_config(f'task={task}')
    small.model = {'name': 'compact', 'features': 4, 'layers': 0}
    small.train.update(batch_size=4, duration='4steps', validate_items=4, grid_columns=2, grid_rows=1)
    small.train.update(sample_every='4steps', validate_every='4steps', log_every='4steps')
    small.data.update(resolution='32', catalog_items=60, validation=0.2)
    small.data['source'] = 'catalog'
    return full(small, eval__batch_size=6, method__degrade__masks='boxes', **overrides)


@pytest.fixture(scope='module', params=['inpaint', 'sr2'])
def task(request):
    return request.param


@pytest.fixture(scope='module')
def workdir(task, once, tmp_path_factory):
    """A trained run."""
    folder = tmp_path_factory.mktemp(task) / 'run'
    train(config(task), folder)
    return folder


@pytest.fixture(scope='module')
def page(task, workdir):
    return evaluate(config(task), workdir)


def report(path):
    return json.loads(path.with_suffix('.json').read_text())


def psnr(a, b, where=True):
    """Of each pair of [N, H, W, C], over the pixels `where`."""
    error = np.mean((a.astype(float) - b) ** 2, (1, 2, 3), where=np.broadcast_to(where, a.shape))
    return 10 * np.log10(255**2 / error)


def test_restored_pictures_and_filters_are_compared_with_the_originals(task, workdir, page):
    result = report(page)
    figures, names = result['figures'], list(CLASSICAL[task])
    assert list(figures) == ['measured', 'input', *(name for name in names if name != 'lanczos')]
    wanted = {'psnr', 'ssim', 'ms_ssim', 'delta_e', 'gmsd'} | ({'psnr_inside_mask'} if task == 'inpaint' else set())
    assert all(found.keys() == wanted for found in figures.values())
    # The same by hand, from the method itself.
    run, trained = open_run(config(task)), Trained.open(workdir)
    method, images = trained.model.method, run.batches().load(run.held_out, ['image'])['image']
    import jax

    from productgen.core.pixels import to_uint8
    from productgen.core.rng import stream

    rng = stream(jax.random.key(0), 'sample')
    given = method.degrade(trained.state, {'image': images, 'seed': run.held_out.astype(np.int32)}, rng)
    given = {name: np.asarray(x) for name, x in given.items()}
    made = np.asarray(to_uint8(method.translate(trained.state, given, rng, {})))
    assert figures['measured']['psnr'] == pytest.approx(np.mean(psnr(made, images)), abs=0.01)
    masks = given['mask'] > 0 if task == 'inpaint' else [None] * len(images)
    name = 'telea' if task == 'inpaint' else 'bicubic'
    by_hand = np.stack([CLASSICAL[task][name](*row) for row in zip(given['input'], masks, strict=True)])
    assert figures[name]['psnr'] == pytest.approx(np.mean(psnr(by_hand, images)), abs=0.01)
    if task == 'inpaint':
        assert figures['measured']['psnr_inside_mask'] == pytest.approx(np.mean(psnr(made, images, masks)), abs=0.01)
        assert figures['telea']['psnr'] > figures['input']['psnr'] + 3
    else:
        lanczos = np.stack([CLASSICAL[task]['lanczos'](image) for image in given['input']])
        assert figures['input']['psnr'] == pytest.approx(np.mean(psnr(lanczos, images)), abs=0.01)


def test_the_protocol_names_what_was_done(task, workdir, page, tmp_path):
    result = report(page)
    found = result['protocol']['restored']
    assert found['task'] == task and found['count'] == 12 and found['degrade']['sigma'] == '0-50'
    assert result['measured']['best classical filter'] in CLASSICAL[task] and not result['features']
    again = config(task, eval__out=str(tmp_path), eval__against=str(page.with_suffix('.json')))
    text = evaluate(again, workdir).read_text()
    assert f'earlier: {workdir}' in text and '>restored</th>' in text and '>inputs</th>' in text
    assert 'degraded, restored, by the best classical filter' in text
    assert report(tmp_path / 'report')['figures'] == result['figures']


def test_settings_of_generators_are_refused(task, workdir):
    with pytest.raises(UserError, match=r'eval\.truncations: it applies to generators'):
        evaluate(config(task, eval__truncations='0.5,1'), workdir)
    run = open_run(config(task, data__validation=0.0, train__validate_every=''))
    with pytest.raises(UserError, match=r'data\.validation: 0\.0 held no picture out'):
        restored(run, workdir, None, lambda protocol: None)


def test_a_packed_run_is_the_run(workdir, tmp_path):
    trained = Trained.open(workdir)
    pack(trained, tmp_path / 'one.safetensors', 'float32')
    assert open_packed(tmp_path / 'one.safetensors').weights == trained.weights
