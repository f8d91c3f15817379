"""Checkpoints are read back once written, whatever the folder is called, and a disk that fails is named."""

import errno
import functools
import logging
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from productgen.core.checkpoint import CheckpointError, Checkpoints
from productgen.core.state import State, create_net


@pytest.fixture
def silent():
    """No log lines: pytest-xdist cannot send one with a name that is not UTF-8."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@functools.cache
def make_state(step=1):
    net = create_net({'w': jnp.arange(6.0)}, optax.adam(0.1), {'mean': jnp.zeros(2, jnp.bfloat16)}, ema=True)
    return State(jnp.int32(step), {'net': net}, {'key': jax.random.key(3)}, {})


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO])
@pytest.mark.parametrize('library', [False, True])
def test_a_disk_that_fails_while_writing_is_reported(tmp_path, monkeypatch, code, library):
    """As the error of the system, or in the text of TensorStore's."""
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / 'checkpoints' / '1.orbax-checkpoint-tmp').mkdir()

    def fail(*args, **kwargs):
        raise ValueError(f"INTERNAL: [os_error_code='{code}']") if library else OSError(code, 'failed')

    monkeypatch.setattr(checkpoints._manager, 'save', fail)
    pattern = f'step 1 cannot be written: {os.strerror(code)}; the disk mounted at /.* has .* free; .*no earlier one'
    with pytest.raises(CheckpointError, match=pattern):
        checkpoints.save(make_state(1), {})
    assert not list((tmp_path / 'checkpoints').iterdir())


def test_an_error_that_is_no_disk_s_is_raised_as_it_is(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoints._manager, 'save', lambda *args, **kwargs: {}['x'])
    with pytest.raises(KeyError):
        checkpoints.save(make_state(1), {})


@pytest.mark.parametrize('what', ['state', 'notes', 'nothing'])
def test_what_was_written_is_read_back(tmp_path, monkeypatch, what):
    state = make_state(2).replace(extra={'noise': jax.random.normal(jax.random.key(0), (64, 64))})
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(1), {})

    def damage():
        files = (tmp_path / 'checkpoints' / '2' / what).rglob('*')  # none yet, where an earlier one is waited for
        path = max(files, key=lambda path: path.stat().st_size, default=None)
        if not path:
            return
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    if what != 'nothing':
        monkeypatch.setattr(checkpoints._manager, 'wait_until_finished', damage)
        with pytest.raises(CheckpointError, match=r'step 2 cannot be written: it cannot be read back .* of step 1'):
            checkpoints.save(state, {})
        return
    reads = []
    monkeypatch.setattr(jax, 'device_put', lambda *args: reads.append(args))
    checkpoints.save(state, {'images': 3, 'pair': (1, 2)})
    assert not reads and checkpoints.steps() == [1, 2]


PATTERNS = 'run [v2]', 'a\\b', 'a*b', '**', 'a?b'
NAMES = *PATTERNS, '50%20#', ' a\n', '-x', 'it\'s "', 'cafe\u0301', '\udce9', 'gs:', 'x' * 255


@pytest.mark.parametrize('name', NAMES, ids=ascii)
def test_a_checkpoint_in_a_folder_of_any_name_can_be_read(tmp_path, monkeypatch, silent, name):
    monkeypatch.chdir(tmp_path)
    for workdir in (tmp_path / name / 'run', Path(name) / 'other'):
        checkpoints = Checkpoints(workdir)
        for step in (1, 2, 3):
            checkpoints.save(make_state(step), {'written': step})
        checkpoints.set_aside_after(2)
        checkpoints.close()
        assert sorted(path.name for path in (tmp_path / workdir / 'checkpoints').iterdir()) == ['2']
        reader = Checkpoints(workdir, writing=False)
        assert np.array_equal(reader.restore(make_state())[0].nets['net'].params['w'], jnp.arange(6.0))
        assert reader.read_weights()[0] == 2
        reader.close()
