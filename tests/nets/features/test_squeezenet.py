"""SqueezeNet against torchvision with the same random weights."""

import jax
import numpy as np
from peers.features import floats, pick, stored, tensors

from productgen.nets.features.squeezenet import SqueezeNet


def test_features_match_torchvision():
    net, expected = SqueezeNet(1000), stored('squeezenet1_1')
    features = jax.jit(net.apply)(net.convert(tensors('squeezenet1_1')), floats(2, size=62))
    assert features.keys() == expected.keys()
    for key, values in features.items():
        np.testing.assert_allclose(pick(values), expected[key], 1e-4, 1e-5 * abs(expected[key]).max(), err_msg=key)
