"""One device, eight devices and two processes run the same code and train to the same weights."""

import os
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny import EIGHT, ROOT, TINY_GAN, launch_command, open_run, run_launch, tiny_config, tiny_gan_config, train

from productgen.core.checkpoint import Checkpoints

FIELDS = {'train__batch_size': 16, 'train__duration': '4steps', 'method__augment__name': 'ada',
          'method__augment__transforms': 'xflip,contrast', 'method__augment__p': 0.5, 'data__resolution': '8',
          'data__balance': 0.5, 'train__stop_on': 'swd', 'train__validate_every': '2steps'}  # fmt: skip
STYLEGAN = FIELDS | {'method__path_weight': 2.0, 'model__channel_base': 128, 'model__channel_max': 16}
GAN = FIELDS | {'data__labels': 'label', 'model__generator_width': 64, 'model__discriminator_width': 64}


def final_state(workdir, config):
    """The state of the newest checkpoint of a run."""
    return jax.device_get(Checkpoints(workdir).restore(open_run(config).abstract()[0])[0])


def assert_close(state, other):
    """Equal up to the order of additions: Adam divides by the size of gradients, so those near zero may differ."""
    flat = lambda s: np.concatenate(
        [np.ravel(x) for x in jax.tree.leaves({n: net.params for n, net in s.nets.items()})]
    )
    a, b = flat(state), flat(other)
    assert np.quantile(np.abs(a - b), 0.99) < 1e-4
    assert np.corrcoef(a, b)[0, 1] > 0.99999
    for name, value in other.extra.items():
        assert np.isclose(state.extra[name], value, rtol=1e-3), name


@pytest.mark.slow
@pytest.mark.parametrize('shard', [False, True])
def test_eight_devices_give_what_one_gives(tmp_path, shard):
    """StyleGAN2: its minibatch statistics and path lengths are of the whole batch, or of groups within a device."""
    config = tiny_config(**STYLEGAN)
    train(config, tmp_path / 'one')
    done = run_launch(launch_command(tmp_path / 'eight', **STYLEGAN, train__shard_state=shard), env=EIGHT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'eight' / 'environment.jsonl').read_text().count('cpu: cpu') == 8
    assert_close(final_state(tmp_path / 'eight', config), final_state(tmp_path / 'one', config))


def test_parts_of_a_batch_stay_on_their_devices():
    """Each of 8 devices takes its own rows of every part: no device computes another's, no pixel travels."""
    program = (
        'import jax, jax.numpy as jnp\n'
        'from productgen.core.sharding import make_mesh, replicated, divided\n'
        'from productgen.core.step import gradients\n'
        'mesh = make_mesh()\n'
        'loss = lambda w, stats, x: (jnp.mean(jnp.tanh(x @ w)), (stats, {}))\n'
        'step = jax.jit(lambda w, x: gradients(loss, w, {}, x, 2, 8)[0],\n'
        '               in_shardings=(replicated(mesh), divided(mesh)), out_shardings=replicated(mesh))\n'
        'text = step.lower(jnp.ones((5, 3)), jnp.ones((64, 5))).compile().as_text()\n'
        'assert "all-gather" not in text and "all-to-all" not in text and "all-reduce" in text, text\n'
    )
    done = run_launch([sys.executable, '-c', program], env=EIGHT)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    """Workdir of a run of `GAN` on one device."""
    workdir = tmp_path_factory.mktemp('one') / 'run'
    train(tiny_gan_config(**GAN), workdir)
    return workdir


@pytest.mark.parametrize('shard', [pytest.param(False, marks=pytest.mark.slow), True])
def test_two_processes_give_what_one_gives(one, tmp_path, shard):
    """With a sharded state they resume a run of one device, whose state was not."""
    words = []
    if shard:
        train(tiny_gan_config(**GAN | {'train__duration': '2steps'}), tmp_path / 'run')
        words = ['--accept_config_change']
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    words += [f'--coordinator=127.0.0.1:{port}', '--num_processes=2']
    fields = GAN | {'train__shard_state': shard}
    command = launch_command(tmp_path / 'run', *words, config='configs/gan.py', tiny=TINY_GAN, **fields)
    both = [
        subprocess.Popen([*command, f'--process_id={i}'], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ)
        for i in range(2)
    ]
    texts = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    config = tiny_gan_config(**GAN)
    assert_close(final_state(tmp_path / 'run', config), final_state(one, config))
    assert len(list((tmp_path / 'run' / 'best').iterdir())) == 1
    assert (tmp_path / 'run' / 'metrics.jsonl').read_text().count('validation/swd"') == 2


def test_the_dry_run_says_how_much_each_device_stores(tmp_path):
    fields = GAN | {'train__shard_state': True}
    command = launch_command(tmp_path / 'run', '--dry_run', config='configs/gan.py', tiny=TINY_GAN, **fields)
    text = run_launch(command, env=EIGHT).stdout
    held, gathered = (
        float(number) * {'KiB': 2**10, 'MiB': 2**20}[unit]
        for number, unit in re.findall(r'  weights(?:: | gathered for an update: up to )([\d.]+) (\w+)', text)
    )
    assert 4 < gathered / held < 8  # small arrays are replicated


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    done = run_launch(
        launch_command(tmp_path / 'run', train__batch_size=12),
        env=EIGHT,
    )
    assert done.returncode == 1
    assert 'train.batch_size: 12 images cannot be divided over 8 device(s)' in done.stderr
    assert 'the nearest that can is 16' in done.stderr
    assert 'Traceback' not in done.stderr
