"""A model in one file does what the model does."""

import json

import jax
import numpy as np
import pytest
from tiny_restorer import restorer

from productgen.config import UserError
from productgen.model.packed import open_packed, pack
from productgen.published import tensors


@pytest.fixture(scope='module')
def trained():
    return restorer('sr2')


def test_it_makes_the_same_pictures(trained, tmp_path):
    pack(trained, tmp_path / 'a.safetensors')
    other = open_packed(tmp_path / 'a.safetensors')
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3), np.uint8)
    one, two = trained.translate(images), other.translate(images)
    assert one.shape == (3, 24, 40, 3) and np.abs(one.astype(int) - two).max() <= 2
    assert np.mean(one == two) > 0.8 and other.step == trained.step
    assert other.model.config == trained.model.config


def test_32_bits_are_exact(trained, tmp_path):
    pack(trained, tmp_path / 'a.safetensors', 'float32')
    found = open_packed(tmp_path / 'a.safetensors').state.nets['restorer'].ema
    assert jax.tree.all(jax.tree.map(np.array_equal, found, trained.state.nets['restorer'].ema))


def test_the_file_is_read_by_other_programs(trained, tmp_path):
    """The format: the length of a header, the header in JSON, the tensors."""
    pack(trained, tmp_path / 'a.safetensors')
    content = (tmp_path / 'a.safetensors').read_bytes()
    length = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8 : 8 + length])
    ends = [entry['data_offsets'][1] for entry in header.values() if 'dtype' in entry]
    assert length % 8 == 0 and max(ends) == len(content) - 8 - length
    assert json.loads(header['__metadata__']['productgen'])['config']['method']['task'] == 'sr2'


def test_other_files_are_refused(trained, tmp_path):
    path = tmp_path / 'a.safetensors'
    with pytest.raises(UserError, match='there is no file'):
        open_packed(path)
    tensors.write_safetensors(path, {'x': np.zeros(3, np.float16)})
    with pytest.raises(UserError, match='is not a packed model'):
        open_packed(path)
    pack(trained, path)
    about = tensors.metadata(path)
    arrays = dict(list(tensors.read(path).items())[1:])
    tensors.write_safetensors(path, arrays, about)
    with pytest.raises(UserError, match='has no weights'):
        open_packed(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError):
        open_packed(path)
