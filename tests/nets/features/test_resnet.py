"""ResNets against torchvision with the same random weights."""

import jax
import numpy as np
import pytest
from peers.features import floats, pick, stored, tensors

from productgen.nets.features.resnet import ResNet


@pytest.mark.parametrize('depth', [18, 34, 50])
def test_features_match_torchvision(depth):
    net, expected = ResNet(depth, 1000), stored(f'resnet{depth}')
    features = jax.jit(net.apply)(net.convert(tensors(f'resnet{depth}')), floats(2))
    assert features.keys() == expected.keys()
    for key, values in features.items():
        np.testing.assert_allclose(pick(values), expected[key], 1e-4, 1e-5 * abs(expected[key]).max(), err_msg=key)
