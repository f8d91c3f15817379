"""Features of pictures: what distances between sets are measured in.

Either of a network that this project has trained (configs/classifier.py), which needs nothing from elsewhere, or of
Inception-v3 with its published weights, whose Frechet distance is FID.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from productgen import weights
from productgen.config import ConfigError
from productgen.ensemble import restore
from productgen.methods import Representing
from productgen.nets.features.inception import PROTOCOLS, InceptionV3
from productgen.sampler import RowByRow
from productgen.setup import prepare_model
from productgen.state import PyTree, State
from productgen.workdir import parse_run, read_config, read_digest, read_labels

Told = dict[str, np.ndarray]
INCEPTION = 'inception'


@dataclasses.dataclass(frozen=True)
class FeatureNet:
    """A network that tells what pictures show.

    Attributes:
      about: what it is, for a protocol: where it comes from, digest of its weights, number of features.
      attributes: what it was trained to tell: the values of each attribute, in code order; may be empty.
      size: (H, W) of its pictures; None where it resizes pictures itself.
      compute: uint8 [N, H, W, 3] -> features [N, D], and what each is told to be, by attribute, [N].
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
        """uint8 [N, H, W, 3] -> features [N, D], and what each is told to be, by attribute, [N]."""
        if self.size not in (None, images.shape[1:3]):
            side = self.size[::-1]
            images = np.stack([np.asarray(Image.fromarray(x).resize(side, Image.Resampling.BICUBIC)) for x in images])
        return self.compute(images)


def open_features(text: str, batch_size: int) -> FeatureNet:
    """`WORKDIR` or `WORKDIR:STEP` of a run, `inception`, or `inception:FILE`.

    Args:
      text: which.
      batch_size: pictures at a time.

    Raises:
      ConfigError: there is no such run or file, its method has no features, or the published file cannot be had.
      CheckpointError: the run has no checkpoint that can be read.
    """
    name, _, path = text.strip().partition(':')
    return _inception(path, batch_size) if name == INCEPTION else _trained(text, batch_size)


def _trained(run: str, batch_size: int) -> FeatureNet:
    """That of a run."""
    workdir, step = parse_run(run, 'eval.features')
    if workdir is None:
        raise ConfigError(f'eval.features={run}: which run? Give WORKDIR or WORKDIR:STEP')
    try:
        config, table = read_config(workdir), read_labels(workdir)
        model = prepare_model(config, table, devices=1)
    except ConfigError as error:
        raise ConfigError(f'eval.features={run}: {str(error).removeprefix(f"--workdir={workdir}: ")}') from None
    if not isinstance(model.method, Representing):
        raise ConfigError(
            f'eval.features={run}: its method, {config["method"]["name"]!r}, has no features; train them with '
            'configs/classifier.py'
        )
    state = restore(model, workdir, step)
    classify = getattr(model.method, 'classify', None)

    def compute(state: State, batch: dict[str, jax.Array], key: jax.Array) -> PyTree:
        told = {}
        if classify:
            told = {name: jnp.argmax(x, -1) for name, x in zip(table.names, classify(state, batch, key), strict=True)}
        return model.method.represent(state, batch, key), told

    rows = RowByRow(model, batch_size, compute)

    def all_rows(images: np.ndarray) -> tuple[np.ndarray, Told]:
        return jax.tree.map(lambda *x: np.concatenate(x), *rows.batches(state, image=images))

    width = all_rows(np.zeros((1, *model.problem.resolution, 3), np.uint8))[0].shape[-1]
    about = {
        'run': str(workdir),
        'step': int(state.step),
        'weights': _digest(state),
        'features': width,
        'data': {'digest': read_digest(workdir), 'validation': model.data.validation},
    }
    return FeatureNet(about, dict(table.attributes) if classify else {}, model.problem.resolution, all_rows)


def _inception(path: str, batch_size: int) -> FeatureNet:
    """Inception-v3 as FID has it, pictures resized as in the original TensorFlow graph."""
    net, file = InceptionV3(), weights.locate(INCEPTION, Path(path).expanduser() if path else '')
    variables, protocol = net.convert(weights.read(file)), 'torch-fidelity'
    apply = jax.jit(lambda variables, image: net.apply(variables, PROTOCOLS[protocol](image))['2048'])

    def all_rows(images: np.ndarray) -> tuple[np.ndarray, Told]:
        parts = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            # Filled up, so that one program serves all.
            parts.append(np.asarray(apply(variables, np.resize(part, (batch_size, *part.shape[1:]))))[: len(part)])
        return np.concatenate(parts), {}

    about = {
        'network': 'Inception-v3 of FID, pool features',
        'protocol': protocol,
        'weights': weights.digest(file)[:16],
        'features': 2048,
    }
    return FeatureNet(about, {}, None, all_rows)


def _digest(state: State) -> str:
    """Beginning of the SHA-256 of the averaged weights, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path({name: net.ema for name, net in state.nets.items()}):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
