"""Features of pictures: what distances between sets are measured in.

Either of a run of this project (configs/classifier.py), or of a network whose weights are in a file
(`productgen.published.networks`): the small one that is part of the project, or a published one such as Inception-v3,
whose Frechet distance is FID. docs/features.md compares them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from PIL import Image

from productgen.config import UserError
from productgen.config.paths import user_path
from productgen.core.pixels import to_float
from productgen.core.sharding import make_mesh, replicated
from productgen.core.state import PyTree, State
from productgen.methods.base import Classifies, Represents
from productgen.model.rows import RowByRow
from productgen.model.trained import Trained
from productgen.model.workdir import parse_run
from productgen.nets.features.lpips import LPIPS
from productgen.published import tensors, weights
from productgen.published.networks import EXTRACTORS, chosen

Predicted = dict[str, np.ndarray]  # probabilities [N, K] of the values of each attribute
LPIPS_TRUNKS = {'alex': 'alexnet', 'vgg': 'vgg16', 'squeeze': 'squeezenet'}  # names of their weights


@dataclasses.dataclass(frozen=True)
class FeatureNet:
    """A network whose features describe pictures.

    Attributes:
      name: `WORKDIR` or `NAME` by which it is opened; never `auto`.
      about: what it is, for a protocol: where it comes from, digest of its weights, number of features.
      attributes: what it predicts: the values of each attribute, in code order; may be empty.
      size: (H, W) of its pictures; None where it resizes pictures itself.
      compute: pictures [N, H, W, 3] of values 0 to 255, uint8 or float -> features [N, D], and by attribute the
        probabilities of its values, [N, K].
    """

    name: str
    about: Mapping[str, Any]
    attributes: Mapping[str, tuple[str, ...]]
    size: tuple[int, int] | None
    compute: Callable[[np.ndarray], tuple[np.ndarray, Predicted]]

    def resize_of(self, size: tuple[int, int]) -> str:
        """How pictures of (H, W) are brought to its size, for a protocol."""
        if self.size is None:
            return 'by the network'
        height, width = self.size
        return 'none' if size == self.size else f'{size[1]}x{size[0]} to {width}x{height}, bicubic (Pillow)'

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, Predicted]:
        """What `compute` gives of pictures of any size.

        Raises:
          UserError: float pictures of another size; only uint8 is resized.
        """
        if self.size not in (None, images.shape[1:3]):
            width, height = side = self.size[::-1]
            if images.dtype != np.uint8:
                raise UserError(
                    'eval.features', f'this needs features of pictures of the same size, not {width}x{height}'
                )
            images = np.stack([np.asarray(Image.fromarray(x).resize(side, Image.Resampling.BICUBIC)) for x in images])
        features, predicted = self.compute(images)
        # In the order of the attributes, which jit loses.
        return features, {name: predicted[name] for name in self.attributes or predicted}


def open_features(text: str, batch_size: int) -> FeatureNet:
    """`WORKDIR` or `WORKDIR:STEP` of a run, `NAME` or `NAME:FILE` of a network in `EXTRACTORS`, or `auto`.

    Args:
      text: which.
      batch_size: pictures at a time.

    Raises:
      UserError: there is no such run or file, its method has no features, or the published file is missing.
      CheckpointError: the run has no checkpoint that can be read.
    """
    text = chosen(text.strip())
    name, _, path = text.partition(':')
    return _published(name, path, batch_size) if name in EXTRACTORS else _trained(text, batch_size)


def _trained(run: str, batch_size: int) -> FeatureNet:
    """Those of a run."""
    workdir, step = parse_run(run, 'eval.features')
    field = f'eval.features={run}'
    if workdir is None:
        raise UserError(field, 'which run? Give WORKDIR or WORKDIR:STEP')
    trained = Trained.open(
        workdir, step, field=field, can=Represents, remedy='train a classifier with configs/classifier.py'
    )
    model, method = trained.model, trained.model.method
    names = model.facts.labels.names if isinstance(method, Classifies) else ()

    def compute(state: State, batch: dict[str, jax.Array], key: jax.Array) -> PyTree:
        # Path lengths divide differences of features by 1e-8.
        with jax.default_matmul_precision('float32'):
            logits = method.classify(state, batch, key) if names else []
            predicted = dict(zip(names, map(nn.softmax, logits), strict=True))
            return method.represent(state, batch, key), predicted

    all_rows = _row_by_row(model.mesh, batch_size, compute, trained.state)
    width = all_rows(np.zeros((1, *model.problem.resolution, 3), np.uint8))[0].shape[-1]
    about = {
        'network': f'{model.config.method.name} of this project, step {trained.step}',
        'run': str(workdir),
        'step': trained.step,
        'weights': trained.weights,
        'features': width,
        'data': {name: getattr(model.config.data, name) for name in ('source', 'validation', 'group')},
        'digest': model.facts.digest,
    }
    attributes = {name: model.facts.labels.attributes[name] for name in names}
    return FeatureNet(run, about, attributes, model.problem.resolution, all_rows)


def _published(name: str, path: str, batch_size: int) -> FeatureNet:
    """Those of a network with published weights, in a file of the user's where a path is given."""
    extractor = EXTRACTORS[name]
    mesh, field = make_mesh(), f'eval.features={name}'
    try:
        variables, sha256 = extractor.load(user_path(path, field) if path else '')
    except UserError as error:
        raise error.at(field, 'weights') from None
    variables = jax.device_put(variables, replicated(mesh))

    def compute(variables: PyTree, batch: dict[str, jax.Array], key: jax.Array) -> PyTree:
        with jax.default_matmul_precision('float32'):  # as for runs
            return extractor(variables, batch['image'])

    opened = f'{name}:{path}' if path else name
    about = {
        'network': extractor.network,
        'protocol': extractor.protocol,
        'weights': sha256[:16],
        'features': extractor.width,
    }
    if mesh.size > 1 or mesh.devices.flat[0].platform != 'cpu':
        return FeatureNet(opened, about, {}, None, _row_by_row(mesh, batch_size, compute, variables))
    # A picture's activations stay in the cache of a core, a batch's do not: twice as fast.
    single, pool = _row_by_row(mesh, 1, compute, variables), ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def one_by_one(images: np.ndarray) -> tuple[np.ndarray, Predicted]:
        return jax.tree.map(lambda *x: np.concatenate(x), *pool.map(single, np.split(images, len(images))))

    return FeatureNet(opened, about, {}, None, one_by_one)


def _row_by_row(
    mesh: Mesh, batch_size: int, compute: Callable[..., PyTree], state: PyTree
) -> Callable[[np.ndarray], tuple[np.ndarray, Predicted]]:
    """`FeatureNet.compute`, over all devices."""
    rows = RowByRow(mesh, batch_size, compute)
    return lambda images: jax.tree.map(lambda *x: np.concatenate(x), *rows.batches(state, image=images))


def open_lpips(trunk: str, batch_size: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """LPIPS with its published weights: pictures [N, H, W, 3] of values 0 to 255, twice -> distances [N].

    Args:
      trunk: `alex`, `vgg` or `squeeze`.
      batch_size: pairs at a time.

    Raises:
      UserError: the published files are missing; the message says how to get them.
    """
    net, mesh = LPIPS(trunk), make_mesh()
    files = [tensors.read(weights.locate(name)) for name in (LPIPS_TRUNKS[trunk], f'lpips_{trunk}')]
    variables = jax.device_put(net.convert(files[0] | files[1]), replicated(mesh))
    compute = lambda variables, batch, key: net.apply(variables, to_float(batch['a']), to_float(batch['b']))
    rows = RowByRow(mesh, batch_size, compute)
    return lambda a, b: np.concatenate(list(rows.batches(variables, a=a, b=b)))
