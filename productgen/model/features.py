"""Features of pictures: what distances between sets are measured in.

Either of a network that this project has trained (configs/classifier.py), which needs nothing from elsewhere, or of
Inception-v3 with its published weights, whose Frechet distance is FID.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from PIL import Image

from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.sharding import make_mesh, replicated
from productgen.core.state import PyTree, State
from productgen.methods import Representing
from productgen.model import weights
from productgen.model.ensemble import restore
from productgen.model.prepared import prepare_model
from productgen.model.rows import RowByRow
from productgen.model.workdir import parse_run, read_config, read_digest, read_labels
from productgen.nets.features.inception import PROTOCOLS, InceptionV3
from productgen.nets.features.lpips import LPIPS

Told = dict[str, np.ndarray]  # probabilities [N, K] of what pictures show, by attribute
INCEPTION = 'inception'
LPIPS_TRUNKS = {'alex': 'alexnet', 'vgg': 'vgg16', 'squeeze': 'squeezenet'}  # names of their weights


@dataclasses.dataclass(frozen=True)
class FeatureNet:
    """A network that tells what pictures show.

    Attributes:
      about: what it is, for a protocol: where it comes from, digest of its weights, number of features.
      attributes: what it was trained to tell: the values of each attribute, in code order; may be empty.
      size: (H, W) of its pictures; None where it resizes pictures itself.
      compute: pictures [N, H, W, 3] of values 0 to 255, uint8 or float -> features [N, D], and by attribute the
        probabilities of its values, [N, K].
    """

    about: Mapping[str, Any]
    attributes: Mapping[str, tuple[str, ...]]
    size: tuple[int, int] | None
    compute: Callable[[np.ndarray], tuple[np.ndarray, Told]]

    def resize_of(self, size: tuple[int, int]) -> str:
        """How pictures of (H, W) are brought to its size, for a protocol."""
        if self.size is None:
            return 'by the network'
        height, width = self.size
        return 'none' if size == self.size else f'{size[1]}x{size[0]} to {width}x{height}, bicubic (Pillow)'

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, Told]:
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
        features, told = self.compute(images)
        return features, {name: told[name] for name in self.attributes or told}  # in their order, which jit loses


def open_features(text: str, batch_size: int) -> FeatureNet:
    """`WORKDIR` or `WORKDIR:STEP` of a run, `inception`, or `inception:FILE`.

    Args:
      text: which.
      batch_size: pictures at a time.

    Raises:
      UserError: there is no such run or file, its method has no features, or the published file cannot be had.
      CheckpointError: the run has no checkpoint that can be read.
    """
    name, _, path = text.strip().partition(':')
    return _inception(path, batch_size) if name == INCEPTION else _trained(text, batch_size)


def _trained(run: str, batch_size: int) -> FeatureNet:
    """That of a run."""
    workdir, step = parse_run(run, 'eval.features')
    if workdir is None:
        raise UserError(f'eval.features={run}', 'which run? Give WORKDIR or WORKDIR:STEP')
    try:
        config, table = read_config(workdir), read_labels(workdir)
        model = prepare_model(config, table, devices=1)
    except UserError as error:
        raise UserError(f'eval.features={run}', f'{str(error).removeprefix(f"--workdir={workdir}: ")}') from None
    if not isinstance(model.method, Representing):
        raise UserError(
            f'eval.features={run}',
            f'its method, {config["method"]["name"]!r}, has no features',
            'train them with configs/classifier.py',
        )
    state = restore(model, workdir, step)
    classify = getattr(model.method, 'classify', None)

    def compute(state: State, batch: dict[str, jax.Array], key: jax.Array) -> PyTree:
        # Path lengths divide differences of features by 1e-8.
        with jax.default_matmul_precision('float32'):
            logits = classify(state, batch, key) if classify else []
            told = dict(zip(table.names, map(nn.softmax, logits), strict=False))
            return model.method.represent(state, batch, key), told

    all_rows = _row_by_row(model.mesh, batch_size, compute, state)
    width = all_rows(np.zeros((1, *model.problem.resolution, 3), np.uint8))[0].shape[-1]
    about = {
        'run': str(workdir),
        'step': int(state.step),
        'weights': _digest(state),
        'features': width,
        'data': {name: getattr(model.data, name) for name in ('source', 'validation', 'group')},
        'digest': read_digest(workdir),
    }
    return FeatureNet(about, dict(table.attributes) if classify else {}, model.problem.resolution, all_rows)


def _inception(path: str, batch_size: int) -> FeatureNet:
    """Inception-v3 as FID has it, pictures resized as in the original TensorFlow graph."""
    net, file = InceptionV3(), weights.locate(INCEPTION, Path(path).expanduser() if path else '')
    mesh, protocol = make_mesh(), 'torch-fidelity'
    variables = jax.device_put(net.convert(weights.read(file)), replicated(mesh))

    def compute(variables: PyTree, batch: dict[str, jax.Array], key: jax.Array) -> PyTree:
        out = net.apply(variables, PROTOCOLS[protocol](batch['image']))
        # Its score is defined on the logits without their bias (Salimans et al. 2016, in the authors' code).
        return out['2048'], {'imagenet': nn.softmax(out['logits_unbiased'])}

    about = {
        'network': 'Inception-v3 of FID, pool features',
        'protocol': protocol,
        'weights': weights.digest(file)[:16],
        'features': 2048,
    }
    if mesh.size > 1 or mesh.devices.flat[0].platform != 'cpu':
        return FeatureNet(about, {}, None, _row_by_row(mesh, batch_size, compute, variables))
    # A picture's activations stay in the cache of a core, a batch's do not: twice as fast.
    single, pool = _row_by_row(mesh, 1, compute, variables), ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def one_by_one(images: np.ndarray) -> tuple[np.ndarray, Told]:
        return jax.tree.map(lambda *x: np.concatenate(x), *pool.map(single, np.split(images, len(images))))

    return FeatureNet(about, {}, None, one_by_one)


def _row_by_row(
    mesh: Mesh, batch_size: int, compute: Callable[..., PyTree], state: PyTree
) -> Callable[[np.ndarray], tuple[np.ndarray, Told]]:
    """`FeatureNet.compute`, over all devices."""
    rows = RowByRow(mesh, batch_size, compute)
    return lambda images: jax.tree.map(lambda *x: np.concatenate(x), *rows.batches(state, image=images))


def open_lpips(trunk: str, batch_size: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """LPIPS with its published weights: pictures [N, H, W, 3] of values 0 to 255, twice -> distances [N].

    Args:
      trunk: `alex`, `vgg` or `squeeze`.
      batch_size: pairs at a time.

    Raises:
      UserError: the published files cannot be had; the message says how to get them.
    """
    net, mesh = LPIPS(trunk), make_mesh()
    files = [weights.read(weights.locate(name)) for name in (LPIPS_TRUNKS[trunk], f'lpips_{trunk}')]
    variables = jax.device_put(net.convert(files[0] | files[1]), replicated(mesh))
    compute = lambda variables, batch, key: net.apply(variables, to_float(batch['a']), to_float(batch['b']))
    rows = RowByRow(mesh, batch_size, compute)
    return lambda a, b: np.concatenate(list(rows.batches(variables, a=a, b=b)))


def _digest(state: State) -> str:
    """Beginning of the SHA-256 of the averaged weights, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path({name: net.ema for name, net in state.nets.items()}):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
