"""AlexNet against torchvision with the same random weights."""

import jax
import numpy as np
from peers.features import floats, pick, stored, tensors

from productgen.nets.features.alexnet import AlexNet


def test_features_match_torchvision():
    net, expected = AlexNet(1000), stored('alexnet')
    features = jax.jit(net.apply)(net.convert(tensors('alexnet')), floats(2))
    assert features.keys() == expected.keys()
    for key, values in features.items():
        np.testing.assert_allclose(pick(values), expected[key], 1e-4, 1e-5 * abs(expected[key]).max(), err_msg=key)
