"""The networks with their published weights against PyTorch, where the packages with the weights are installed."""

import pathlib

import jax
import numpy as np
import pytest
from peers.features import pick, pictures

from productgen.nets.features.efficientnet import EfficientNetLite0, normalize
from productgen.nets.features.vgg import normalize_edges
from productgen.published import tensors, weights
from productgen.published.networks import EXTRACTORS

STORED = np.load(pathlib.Path(__file__).parents[1] / 'peers/published.npz')


def compare(name, maps):
    """Largest difference of the stored values, relative to the largest of an output."""
    keys = [key for key in STORED if key.startswith(f'{name}/')]
    return max(np.abs(pick(maps[key.split('/')[1]]) - STORED[key]).max() / np.abs(STORED[key]).max() for key in keys)


def installed(name):
    if not weights.is_there(name):
        pytest.skip(f'the weights of {name} are not installed: {weights.INSTALL}')
    return tensors.read(weights.locate(name))


@pytest.fixture(scope='module')
def image():
    return pictures(0, 2, 64) / np.float32(127.5) - 1


def test_efficientnet(image):
    net = EfficientNetLite0(classes=1000)
    variables = net.convert(installed('efficientnet'))
    assert compare('efficientnet', jax.jit(net.apply)(variables, normalize(image))) < 1e-5


def test_vgg(image):
    extractor = EXTRACTORS['vgg']
    variables = extractor.net.convert(extractor.names(installed('vgg16_edges')))
    assert compare('vgg16_edges', jax.jit(extractor.net.apply)(variables, normalize_edges(image))) < 1e-5
