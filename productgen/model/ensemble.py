"""One or several trained generators that make pictures together: other runs, other steps of a run.

In a `mixture`, each picture is made by one of them, chosen by its seed: together they show what single runs leave out.
In an `average` they are one generator with the mean of their averaged weights; this makes sense for steps of one run,
or for runs that started from the same weights (Wortsman et al. 2022, "Model soups").
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from productgen.config import UserError
from productgen.config.sections import SampleConfig
from productgen.core.state import State
from productgen.methods.base import Generates, knob_values
from productgen.model.trained import Trained, restore
from productgen.model.workdir import parse_run


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Generators that are used as one.

    Attributes:
      members: the generators; labels and settings of the first count.
      name: what distinguishes it from others in a file name.
    """

    members: tuple[Trained, ...]
    name: str

    @property
    def first(self) -> Trained:
        """The run that was named, or the average."""
        return self.members[0]

    def knobs(self, settings: Any) -> dict[str, float]:
        """The values that a section such as `sample` gives to the knobs of the members."""
        return knob_values([knob for member in self.members for knob in member.knobs], settings)

    def iterate(
        self, seeds: np.ndarray, label: np.ndarray, knobs: Mapping[str, Any] | None = None
    ) -> Iterator[np.ndarray]:
        """Pictures uint8 [H, W, 3] one by one, each from the generator number `seed` modulo their number.

        Args:
          seeds: int [N].
          label: int32 [N, A].
          knobs: numbers by name.
        """
        seeds, knobs, count = np.asarray(seeds), knobs or {}, len(self.members)
        if count == 1:
            yield from self.first.iterate(seeds, label, **knobs)
            return
        size = self.first.batch_size * count
        for start in range(0, len(seeds), size):
            part = slice(start, start + size)
            images: list = [None] * len(seeds[part])
            for i, member in enumerate(self.members):
                places = np.flatnonzero(seeds[part] % count == i)
                if len(places):
                    made = member.iterate(seeds[part][places], label[part][places], **knobs)
                    for place, image in zip(places, made, strict=True):
                        images[place] = image
            yield from images


def open_ensemble(workdir: Path, settings: SampleConfig, *, one: bool = False, float32: bool = False) -> Ensemble:
    """The generators that a `sample` section names.

    Args:
      workdir: of the first run.
      settings: names the others, and how they are combined.
      one: a single generator is needed, as where latents are mixed.
      float32: compute in float32 whatever the runs' configs say.

    Raises:
      UserError: `sample.also` names no run, or one that cannot be combined with the first, or a knob is out of range.
      CheckpointError: there is no checkpoint, or none that can be read.
    """
    size = settings.batch_size
    first = Trained.open(workdir, settings.step, batch_size=size, float32=float32, can=Generates)
    members, words = [first], [f'step{first.step:06d}']
    for text in filter(str.strip, settings.also.split(',')):
        folder, step = parse_run(text, 'sample.also')
        field = f'sample.also={text.strip()}'
        if folder:
            other = Trained.open(folder, step, field=field, batch_size=size, float32=float32, can=Generates)
            _check_same_kind(first, other, field)
        else:
            model, state = restore(first.model, workdir, step)
            other = dataclasses.replace(first, model=model, state=state)
        members.append(other)
        words.append((_distinct(folder) if folder else '') + f'step{other.step:06d}')
    name = '+'.join(words)
    if len(members) > 1 and settings.combine == 'average':
        members = [dataclasses.replace(first, state=_average([member.state for member in members]))]
    elif len(members) > 1 and one:
        raise UserError('sample.combine', 'this needs one generator', 'use sample.combine=average, or grid or png')
    ensemble = Ensemble(tuple(members), name if len(words) == 1 else f'{settings.combine}-{name}')
    for member in members:
        member.check_knobs(ensemble.knobs(settings), 'sample')
    return ensemble


def _distinct(folder: Path) -> str:
    """A folder's name for a file name, with a checksum that distinguishes it from others of that name."""
    path = folder.resolve()
    return f'{path.name}-{zlib.crc32(bytes(path)):08x}-'


def _check_same_kind(first: Trained, other: Trained, field: str) -> None:
    """Raises a UserError where two runs make pictures of other sizes or were trained with other labels."""
    if other.model.problem.resolution != first.model.problem.resolution:
        sizes = ' and '.join('{1}x{0}'.format(*run.model.problem.resolution) for run in (other, first))
        raise UserError(field, f'its pictures are of another size ({sizes})', 'sample it by itself')
    if not other.model.facts.labels.same_values(first.model.facts.labels):
        raise UserError(field, 'it was trained with other labels', 'sample it by itself')


def _average(states: list[State]) -> State:
    """The first state with the mean of the weights and statistics of all.

    Raises:
      UserError: they are not of one architecture.
    """
    parts = [{name: (net.ema, net.stats) for name, net in state.nets.items()} for state in states]
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype), part) for part in parts]
    if any(kind != kinds[0] for kind in kinds):
        raise UserError('sample.combine', 'average needs generators of one architecture', 'use mixture')
    mean = jax.tree.map(lambda *xs: (sum(x.astype('float32') for x in xs) / len(xs)).astype(xs[0].dtype), *parts)
    nets = {name: net.replace(ema=mean[name][0], stats=mean[name][1]) for name, net in states[0].nets.items()}
    return states[0].replace(nets=nets)
