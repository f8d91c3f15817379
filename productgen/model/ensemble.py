"""One or several trained generators to make pictures from: other runs, other steps of a run.

As a `mixture`, each picture is made by one of them, chosen by its seed: together they show what single runs leave out.
As an `average` they are one generator with the mean of their averaged weights; this makes sense for steps of one run,
or for runs that started from the same weights (Wortsman et al. 2022, "Model soups").
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from productgen.config import UserError
from productgen.core.checkpoint import CheckpointError
from productgen.core.state import State
from productgen.methods.base import Batch
from productgen.model.prepared import Model, abstract_state, prepare_model, with_frozen
from productgen.model.rows import Sampler
from productgen.model.workdir import checkpoints_of, parse_run, read_config, read_labels


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Generators and their weights.

    Attributes:
      model: of the run that was asked for; its labels and settings count.
      members: model and state of each generator; `model` is the first one's.
      name: what tells it from others in a file name.
    """

    model: Model
    members: tuple[tuple[Model, State], ...]
    name: str

    @functools.cached_property
    def _samplers(self) -> list[Sampler]:
        return [Sampler(model, self.model.sample.batch_size) for model, _ in self.members]

    def iterate(self, make: Callable[[State, Batch, jax.Array], jax.Array] | None = None, **rows) -> Iterator:
        """Pictures uint8 [H, W, 3] one by one, each from the generator number `seed` modulo their number.

        Args:
          make: instead of the methods' `sample`, where there is one generator; see `Sampler`.
          rows: arrays [N, ...], see `Sampler.iterate`; several generators need `seed`.
        """
        size, count = self.model.sample.batch_size, len(self.members)
        samplers = [Sampler(self.model, size, make)] if make else self._samplers
        if count == 1:
            yield from samplers[0].iterate(self.members[0][1], **rows)
            return
        rows = {name: np.asarray(x) for name, x in rows.items()}
        for start in range(0, len(rows['seed']), size * count):
            part = {name: x[start : start + size * count] for name, x in rows.items()}
            images: list = [None] * len(part['seed'])
            for i, (sampler, (_, state)) in enumerate(zip(samplers, self.members, strict=True)):
                places = np.flatnonzero(part['seed'] % count == i)
                if len(places):
                    made = sampler.iterate(state, **{name: x[places] for name, x in part.items()})
                    for place, image in zip(places, made, strict=True):
                        images[place] = image
            yield from images


def load(model: Model, workdir: Path) -> Ensemble:
    """The generators that the `sample` section asks for.

    Args:
      model: of the run in `workdir`.
      workdir: of a run.

    Raises:
      UserError: `sample.also` names no run, or one that does not go together with this one.
      CheckpointError: there is no checkpoint, or none that can be read.
    """
    settings = model.sample
    first = restore(model, workdir, settings.step)
    members, words = [(model, first)], [f'step{int(first.step):06d}']
    for text in filter(str.strip, settings.also.split(',')):
        folder, step = parse_run(text, 'sample.also')
        other = _other(model, folder, text.strip()) if folder else model
        state = restore(other, folder or workdir, step)
        members.append((other, state))
        words.append((_told_apart(folder) if folder else '') + f'step{int(state.step):06d}')
    name = '+'.join(words)
    if len(members) == 1:
        return Ensemble(model, (members[0],), name)
    if settings.combine == 'average':
        members = [(model, _average([state for _, state in members]))]
    elif settings.output in ('mix', 'walk'):
        raise UserError(
            'sample.combine', f'{settings.output!r} needs one generator', 'use sample.combine=average, or grid or png'
        )
    return Ensemble(model, tuple(members), f'{settings.combine}-{name}')


def _told_apart(folder: Path) -> str:
    """A folder's name for a file name, with a sum that tells it from others of that name."""
    path = folder.resolve()
    return f'{path.name}-{zlib.crc32(bytes(path)):08x}-'


def _other(model: Model, workdir: Path, text: str) -> Model:
    """The model of another run, of pictures of the same size and labels."""
    try:
        config = {**read_config(workdir), 'sample': vars(model.sample)}
        other = prepare_model(config, read_labels(workdir), devices=1)
    except UserError as error:
        raise UserError(f'sample.also={text}', f'{str(error).removeprefix(f"--workdir={workdir}: ")}') from None
    if other.problem.resolution != model.problem.resolution:
        sizes = ' and '.join('{1}x{0}'.format(*m.problem.resolution) for m in (other, model))
        raise UserError(f'sample.also={text}', f'its pictures are of another size ({sizes})', 'sample it by itself')
    if not other.table.same_values(model.table):
        raise UserError(f'sample.also={text}', 'it was trained with other labels', 'sample it by itself')
    return other


def restore(model: Model, workdir: Path, step: int) -> State:
    """The averaged weights of a step: 0 is the newest, -1 the best."""
    template, _ = abstract_state(model)
    checkpoints, step = checkpoints_of(workdir, step)
    with contextlib.closing(checkpoints):
        restored = checkpoints.restore(template, step, to_sample=True)
    if not restored:
        raise CheckpointError(f'There is no checkpoint in {workdir} yet')
    return with_frozen(model, restored[0])


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
