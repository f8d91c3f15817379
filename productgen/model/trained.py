"""The one door to a trained model: sampling, evaluation, fine-tuning and tools open a run here and nowhere else."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn

from productgen.config import UserError
from productgen.core.checkpoint import CheckpointError
from productgen.core.state import State
from productgen.methods.base import (
    Classifies,
    Generates,
    HasLatents,
    Knob,
    Reconstructs,
    Represents,
    Restores,
    Translates,
)
from productgen.model.prepared import Prepared, after_images, digest, prepare
from productgen.model.rows import ImageMaker, RowByRow, without_knobs
from productgen.model.workdir import checkpoints_of, read_config, read_facts

Maker = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A method with trained weights; made by `open`.

    Images are uint8 arrays [N, H, W, C], any number of them; they are processed `batch_size` at a time.

    Attributes:
      workdir: of the run.
      model: the method and what it was built from.
      state: the averaged weights, statistics and step.
      batch_size: rows at a time.
    """

    workdir: Path
    model: Prepared
    state: State
    batch_size: int = 32

    @classmethod
    def open(
        cls,
        workdir: Path,
        step: int = 0,
        *,
        field: str = '',
        batch_size: int = 32,
        float32: bool = False,
        can: type | None = None,
        remedy: str = '',
    ) -> Trained:
        """Opens a run, which may still be training; its data set is not needed.

        Args:
          workdir: of the run.
          step: of the checkpoint: 0 is the newest that can be read, -1 the best by `train.stop_on`.
          field: the setting that names the run, for messages; by default `--workdir=WORKDIR`.
          batch_size: rows at a time.
          float32: compute in float32 whatever the run's config says.
          can: a protocol of `productgen.methods.base` that the method must have, such as `Generates`.
          remedy: for the message where it does not.

        Raises:
          UserError: there is no such run, or its method cannot do what is needed; the error's field is `field`.
          CheckpointError: there is no such checkpoint, or none that can be read.
        """
        own = f'--workdir={workdir}'
        try:
            model = prepare(read_config(workdir), read_facts(workdir), devices=1, float32=float32)
        except CheckpointError:
            raise
        except UserError as error:
            raise error.at(field or own, own) from None
        if can and not isinstance(model.method, can):
            reason = f'its method, {model.config.method.name!r}, {_MISSING[can]}'
            raise UserError(field or own, reason, remedy)
        return cls(workdir, *restore(model, workdir, step), batch_size)

    @property
    def step(self) -> int:
        """Updates done when the checkpoint was written."""
        return int(self.state.step)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """The settings that `generate` and `translate` understand."""
        return self.model.method.knobs

    @functools.cached_property
    def weights(self) -> str:
        """Digest of the averaged weights."""
        return digest({name: net.ema for name, net in self.state.nets.items()})

    def check_knobs(self, values: Mapping[str, float], section: str) -> None:
        """Raises a UserError that names `SECTION.KNOB` where a value is out of its range."""
        for knob in self.knobs:
            if knob.name in values:
                knob.check(values[knob.name], f'{section}.{knob.name}')

    def _method(self, protocol: type) -> Any:
        method = self.model.method
        if not isinstance(method, protocol):
            name = self.model.config.method.name
            raise UserError(f'--workdir={self.workdir}', f'its method, {name!r}, {_MISSING[protocol]}')
        return method

    def generate(self, seeds: Sequence[int], label: np.ndarray | None = None, **knobs: Any) -> np.ndarray:
        """Images of seeds [N] and labels int32 [N, A]; by default labels as frequent as in training.

        Args:
          seeds: a seed is an image.
          label: label rows; see `LabelTable`.
          knobs: numbers, or arrays [N]; see `knobs`.
        """
        return np.stack(list(self.iterate(seeds, label, **knobs)))

    def iterate(self, seeds: Sequence[int], label: np.ndarray | None = None, **knobs: Any) -> Iterator[np.ndarray]:
        """`generate`, uint8 [H, W, C] one by one."""
        self._method(Generates)
        if label is None:
            label = self.model.facts.labels.draw(seeds)
        return self._generator.iterate(self.state, knobs, seed=np.asarray(seeds), label=label)

    def translate(self, images: np.ndarray, **knobs: Any) -> np.ndarray:
        """Images made from images uint8 [N, H, W, C]."""
        self._method(Translates)
        return self._translator(self.state, knobs, seed=np.arange(len(images)), input=images)

    def reconstruct(self, images: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """Images encoded and decoded again; labels int32 [N, A] are unknown by default."""
        self._method(Reconstructs)
        if label is None:
            label = np.full((len(images), len(self.model.problem.labels)), -1, np.int32)
        return self._reconstructor(self.state, None, seed=np.arange(len(images)), label=label, image=images)

    def represent(self, images: np.ndarray) -> np.ndarray:
        """Features [N, D] of images uint8 [N, H, W, 3] of the run's size."""
        self._method(Represents)
        return np.concatenate(list(self._representer.batches(self.state, image=images)))

    def classify(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities [N, n] of the values of each attribute, of images uint8 [N, H, W, 3] of the run's size."""
        self._method(Classifies)
        parts = list(self._classifier.batches(self.state, image=images))
        columns = [np.concatenate([part[i] for part in parts]) for i in range(len(parts[0]))]
        return dict(zip(self.model.facts.labels.names, columns, strict=True))

    def blend(self, compute: Maker, knobs: Mapping[str, Any], **rows: np.ndarray) -> Iterator[np.ndarray]:
        """Images uint8 [H, W, C] one by one of another function of the latents.

        Args:
          compute: `(state, batch, key, knobs) -> images` [B, H, W, C] in [-1, 1].
          knobs: numbers, or arrays [N].
          rows: arrays [N, ...] that `compute` finds in its batch.
        """
        self._method(HasLatents)
        return ImageMaker(self.model, self.batch_size, compute, self.knobs).iterate(self.state, knobs, **rows)

    @functools.cached_property
    def _generator(self) -> ImageMaker:
        return ImageMaker(self.model, self.batch_size, self.model.method.generate, self.knobs)

    @functools.cached_property
    def _translator(self) -> ImageMaker:
        return ImageMaker(self.model, self.batch_size, self.model.method.translate, self.knobs)

    @functools.cached_property
    def _reconstructor(self) -> ImageMaker:
        return ImageMaker(self.model, self.batch_size, without_knobs(self.model.method.reconstruct))

    @functools.cached_property
    def _representer(self) -> RowByRow:
        return RowByRow(self.model.mesh, self.batch_size, self.model.method.represent, self.model.config.seed)

    @functools.cached_property
    def _classifier(self) -> RowByRow:
        classify = self.model.method.classify
        probabilities = lambda state, batch, key: [nn.softmax(x) for x in classify(state, batch, key)]
        return RowByRow(self.model.mesh, self.batch_size, probabilities, self.model.config.seed)


_MISSING = {  # what a method that lacks a protocol does not do
    Generates: 'generates no pictures',
    Translates: 'translates no pictures',
    Reconstructs: 'reconstructs no pictures',
    Restores: 'restores no pictures',
    Represents: 'has no features',
    Classifies: 'classifies no pictures',
    HasLatents: 'has no style latents',
}


def restore(model: Prepared, workdir: Path, step: int) -> tuple[Prepared, State]:
    """The averaged weights of a checkpoint, and the model as it was then: see `after_images`.

    Args:
      model: of the run in `workdir`.
      workdir: of a run.
      step: 0 is the newest, -1 the best.

    Raises:
      CheckpointError: there is no such checkpoint, or none that can be read.
    """
    template, _ = model.abstract()
    checkpoints, step = checkpoints_of(workdir, step)
    with contextlib.closing(checkpoints):
        restored = checkpoints.restore(template, step, to_sample=True)
    if not restored:
        raise CheckpointError(str(workdir), 'there is no checkpoint in it yet')
    state, notes = restored
    number = int(state.step)
    model = after_images(model, notes.get('images', model.problem.images(number)), number)
    return model, model.with_frozen(state, training=False)
