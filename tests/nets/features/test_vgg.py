"""VGG against torchvision with the same random weights."""

import jax
import numpy as np
from peers.features import floats, pick, stored, tensors

from productgen.nets.features.vgg import VGG


def check(net, name, prefix=''):
    features = jax.jit(net.apply)(net.convert(tensors(name, prefix)), floats(2))
    expected = stored(name)
    assert features.keys() == (expected.keys() if net.classes else expected.keys() - {'logits'})
    for key, values in features.items():
        np.testing.assert_allclose(pick(values), expected[key], 1e-4, 1e-5 * abs(expected[key]).max(), err_msg=key)


def test_vgg16_matches_torchvision():
    check(VGG(16, 1000), 'vgg16')


def test_vgg19_without_classifier_matches_torchvision():
    check(VGG(19), 'vgg19', 'features.')
