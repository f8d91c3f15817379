"""EfficientNet-lite0 against the published PyTorch code with the same random weights."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers.features import fill, pick, pictures

from productgen.nets.depthwise import depthwise_conv, pad_same
from productgen.nets.features.efficientnet import EfficientNetLite0, normalize

STORED = np.load(pathlib.Path(__file__).parents[2] / 'peers/efficientnet.npz')


def test_outputs_match_the_peer():
    net = EfficientNetLite0(classes=1000)
    variables = net.convert(fill(json.loads(STORED['shapes'].tobytes())))
    found = jax.jit(net.apply)(variables, normalize(pictures(0, 2, 64) / np.float32(127.5) - 1))
    for name in ('head', 'logits'):
        np.testing.assert_allclose(pick(found[name]), STORED[name], 1e-4, 1e-5 * abs(STORED[name]).max())
    sides = [32, 32, 16, 8, 4, 4, 2, 2]
    assert [found[name].shape[1] for name in ('stem', *(f'stage{i}' for i in range(1, 8)))] == sides


def test_features_alone_need_no_head():
    tensors = fill(json.loads(STORED['shapes'].tobytes()))
    variables = EfficientNetLite0(head=False).convert(tensors)
    assert not {'_conv_head', '_fc'} & variables['params'].keys()
    with pytest.raises(ValueError, match='missing: _fc.weight'):
        EfficientNetLite0(classes=1000).convert({name: x for name, x in tensors.items() if name != '_fc.weight'})


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [3, 5])
@pytest.mark.parametrize('shape', [(8, 8), (7, 10)])
def test_depthwise_convolution_is_xla_s_grouped_one(stride, size, shape):
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(s).astype(np.float32) for s in ((2, *shape, 6), (size, size, 1, 6)))

    def native(x, kernel):
        numbers = ('NHWC', 'HWIO', 'NHWC')
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), 'SAME', None, None, numbers, 6)

    def both(conv):
        """The convolution and the slopes of a function of it."""
        slopes = jax.grad(lambda x, kernel: jnp.sum(jnp.sin(conv(x, kernel))), (0, 1))
        return jax.jit(lambda x, kernel: (conv(x, kernel), slopes(x, kernel)))(x, kernel)

    found, slopes = both(lambda x, kernel: depthwise_conv(x, kernel, stride))
    expected, expected_slopes = both(native)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for a, b in zip(slopes, expected_slopes, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_an_odd_zero_goes_to_the_bottom_and_to_the_right():
    padded = pad_same(jnp.ones((1, 4, 5, 1)), 3, 2)[0, :, :, 0]
    assert padded.shape == (5, 7) and padded[-1].max() == 0 and padded[0, 1:-1].min() == 1
