"""Feature networks whose weights are in files: which there are, and how each of them sees pictures (docs/features.md).

What is fixed here is part of the protocol of every figure measured with them: size, resizing, layers.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.nets.features import efficientnet, small, vgg
from productgen.nets.features.inception import PROTOCOLS, InceptionV3
from productgen.nets.features.layers import Published
from productgen.published import tensors, weights

Maps = Mapping[str, jax.Array]
Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A network and its use.

    Attributes:
      weights: name of its file, see `weights.FILES`.
      net: the network.
      protocol: how pictures are prepared.
      network: what it is and which layers are used, for a report.
      width: number of features.
      prepare: pictures [B, H, W, 3] of values 0 to 255 -> input of the network.
      features: outputs of the network -> features [B, width].
      predicted: outputs of the network -> probabilities [B, K] by name.
      names: tensors of the file -> tensors by the names of the network.
    """

    weights: str
    net: Published
    protocol: str
    network: str
    width: int
    prepare: Callable[[jax.Array], jax.Array]
    features: Callable[[Maps], jax.Array]
    predicted: Callable[[Maps], dict[str, jax.Array]] = lambda maps: {}
    names: Callable[[Tensors], Tensors] = lambda tensors: tensors

    def load(self, path: str | os.PathLike = '') -> tuple[dict[str, Any], str]:
        """The variables of the network, on the host, and the sha256 of their file.

        Args:
          path: a file of the user's; empty for the published one.

        Raises:
          UserError: the file is missing, or its tensors are not those of this network.
        """
        file = weights.locate(self.weights, path)
        found = tensors.read(file)
        try:
            return self.net.convert(self.names(found)), tensors.digest(file)
        except (ValueError, KeyError) as error:
            raise UserError(f'{file}', f'its tensors are not those of {self.network} ({error})') from error

    def shapes(self) -> dict[str, Any]:
        """Shapes of the variables, without the file."""
        return jax.eval_shape(self.net.init, jax.random.key(0), *self.net.example())

    def __call__(self, variables: Any, image: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features [B, width] and predictions of pictures [B, H, W, 3] of values 0 to 255."""
        maps = self.net.apply(variables, self.prepare(image))
        return self.features(maps), self.predicted(maps)


SIDE = 128  # pixels; of the published networks that take any size


def _protocol(side: int) -> str:
    return f'resized to {side}x{side}, bicubic with antialiasing (JAX)'


def _resized(normalize: Callable[[jax.Array], jax.Array], side: int = SIDE) -> Callable[[jax.Array], jax.Array]:
    """Resizes pictures of values 0 to 255 and normalises them."""

    def prepare(image: jax.Array) -> jax.Array:
        image = to_float(image)
        if image.shape[1:3] != (side, side):
            image = jax.image.resize(image, (len(image), side, side, 3), 'bicubic')
        return normalize(jnp.clip(image, -1, 1))  # bicubic overshoots

    return prepare


def _means(scales: Mapping[str, float]) -> Callable[[Maps], jax.Array]:
    """Means over the pixels of some maps, side by side, each divided by a constant."""
    return lambda maps: jnp.concatenate([jnp.mean(maps[name], (1, 2)) / scale for name, scale in scales.items()], -1)


# Root mean squares of the means on photos of clothes, to two digits. The kernel of the kernel distance depends on the
# scale of features: those of Inception are below 1, and at some tens single features would decide.
_EFFICIENTNET = dict.fromkeys(('stage4', 'stage5', 'stage6', 'stage7'), 3.3)
_VGG = {'relu1_2': 44.0, 'relu2_2': 17.0, 'relu3_3': 8.2, 'relu4_3': 2.1, 'relu5_3': 4.1}


def _deviations_and_means(deviations: tuple[str, ...], means: tuple[str, ...]) -> Callable[[Maps], jax.Array]:
    """Standard deviations over the pixels of some maps, then means of others."""
    mean = _means(dict.fromkeys(means, 1.0))
    return lambda maps: jnp.concatenate([*(jnp.std(maps[name], (1, 2)) for name in deviations), mean(maps)], -1)


EXTRACTORS = {
    'inception': Extractor(
        weights='inception',
        net=InceptionV3(),
        protocol='torch-fidelity',
        network='Inception-v3 of FID, pool features',
        width=2048,
        prepare=PROTOCOLS['torch-fidelity'],
        features=lambda maps: maps['2048'],
        # Its score is defined on the logits without their bias (Salimans et al. 2016, in the authors' code).
        predicted=lambda maps: {'imagenet': nn.softmax(maps['logits_unbiased'])},
    ),
    'efficientnet': Extractor(
        weights='efficientnet',
        net=efficientnet.EfficientNetLite0(head=False),
        protocol=f'{_protocol(SIDE)}; features divided by 3.3',
        network='EfficientNet-lite0, means of the maps of stages 4 to 7',
        width=80 + 112 + 192 + 320,
        prepare=_resized(efficientnet.normalize),
        features=_means(_EFFICIENTNET),
    ),
    'vgg': Extractor(
        weights='vgg16_edges',
        net=vgg.VGG(),
        protocol=f'{_protocol(SIDE)}; features of the levels divided by {", ".join(f"{x:g}" for x in _VGG.values())}',
        network='VGG-16 of HED (ImageNet, then edges), means of the last map of each level',
        width=sum(vgg.WIDTHS),
        prepare=_resized(vgg.normalize_edges),
        features=_means(_VGG),
        names=vgg.from_edges,
    ),
    'small': Extractor(
        weights='small',
        net=small.SmallNet(),
        protocol=_protocol(small.SIDE),
        network='the small network of the project, deviations of the maps of levels 1 to 3, means of the last map',
        width=small.WIDTH * (1 + 2 + 4 + 8),
        prepare=_resized(lambda image: image, small.SIDE),
        # The deviations change with contrast and texture, which the normalisation hides from later levels.
        features=_deviations_and_means(('level1', 'level2', 'level3'), ('last',)),
    ),
}
AUTO = 'auto'
BEST = 'efficientnet', 'vgg', 'small'  # what `auto` takes: the first whose file is there; the last always is


def chosen(name: str) -> str:
    """The network that `auto` stands for on this machine, without any download; another name as it is."""
    if name.strip() != AUTO:
        return name
    return next(network for network in BEST if network == BEST[-1] or weights.is_there(EXTRACTORS[network].weights))
