"""VGG against torchvision with the same random weights."""

import jax
import numpy as np
import pytest
from peers.features import floats, pick, stored, tensors

from productgen.nets.features.vgg import DEPTHS, VGG, from_edges, normalize_edges


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


def test_the_weights_of_hed_by_their_keras_names():
    """Keras counts the layers of a block from the second, and keeps [h, w, C, D]."""
    published, keras, index = tensors('vgg16', 'features.'), {}, 0
    for level, count in enumerate(DEPTHS[16], 1):
        for i in range(count):
            layer = f'block{level}/layers/conv2d{["", "_1", "_2"][i]}/vars'
            keras[f'{layer}/0'] = published[f'features.{index}.weight'].transpose(2, 3, 1, 0)
            keras[f'{layer}/1'] = published[f'features.{index}.bias']
            index += 2
        index += 1
    found = from_edges(keras | {'dsn1/vars/0': np.zeros((1, 1, 64, 1))})
    assert found.keys() == published.keys()
    for name, value in published.items():
        np.testing.assert_array_equal(found[name], value)
    with pytest.raises(KeyError, match='block5/layers/conv2d_2/vars/1'):
        from_edges({name: x for name, x in keras.items() if name != 'block5/layers/conv2d_2/vars/1'})


def test_pictures_for_hed_are_blue_first_and_centred():
    image = np.stack([np.full((2, 2), value / 127.5 - 1, np.float32) for value in (255, 128, 0)], -1)
    np.testing.assert_allclose(normalize_edges(image)[0, 0], [-104.00699, 11.33123, 132.32108], rtol=1e-5)
