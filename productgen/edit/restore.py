"""Restoration of whole photos by networks that work on tiles of them."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import jax
import numpy as np

from productgen.config import UserError, choose
from productgen.data.native import Photo, resized
from productgen.degrade.tasks import SCALES
from productgen.edit.tiles import margin_of, tiled
from productgen.methods.base import Restores
from productgen.metrics.estimate import estimate
from productgen.model.packed import open_packed
from productgen.model.rows import RowByRow
from productgen.model.trained import Trained

AUTO = 'auto'
ORDER = ('jpeg', 'denoise', 'deblur')  # what `auto` may do
# The project's own networks: TASK.safetensors, and in PLEASING those of `restoration_gan`.
FOLDER = Path(__file__).parent.parent / 'published' / 'restore'
PLEASING = 'pleasing'


class Restorer:
    """A network that restores photos.

    Args:
      trained: of a method that `Restores`.
      strength: how much of the correction is applied, 0 to 1.
    """

    def __init__(self, trained: Trained, strength: float = 1.0):
        self._trained, self._strength = trained, strength
        self._method: Restores = trained.model.method
        model, translate = trained.model, self._method.translate
        self._run = RowByRow(
            model.mesh, 1, lambda state, batch, key: translate(state, batch, key, {}), model.config.seed
        )
        self._margin = margin_of(self._method.reach, self._method.stride)
        self._lock = threading.Lock()

    @property
    def weights(self) -> str:
        """Digest of the network's weights."""
        return self._trained.weights

    def __call__(self, photo: Photo, mask: np.ndarray | None = None) -> Photo:
        """The restored photo; colours beyond sRGB, transparency and depth are kept.

        Args:
          photo: of any size.
          mask: bool [H, W], true where a pixel is missing, for a network that fills these.
        """
        return photo.mapped(lambda pixels: self.pixels(pixels, mask))

    def pixels(self, pixels: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """float32 [H, W, 3] in [0, 1] -> [s H, s W, 3] in [0, 1]; pixels outside of a mask stay as they are."""
        hole = None if mask is None else mask[..., None].astype(np.float32)
        stacked = pixels if hole is None else np.concatenate([pixels, hole], -1)

        def one(tile: np.ndarray) -> np.ndarray:
            rows = {'input': tile[None, ..., :3] * 2 - 1}
            if hole is not None:
                rows['mask'] = (tile[None, ..., 3:] * 255).astype(np.uint8)
            with self._lock:  # one at a time: the network uses all cores, and a tile its share of memory
                return next(self._run.batches(self._trained.state, **rows))[0]

        made = tiled(one, stacked, self._method.scale, self._margin, self._method.stride)
        made += 1
        made /= 2
        if hole is not None:
            return np.where(hole > 0, made, pixels)
        if self._strength < 1:
            base = resized(pixels, made.shape[:2])
            return base + self._strength * (made - base)
        return made


class Networks:
    """The networks of a request, opened when they are first needed.

    Args:
      task: a task of restoration, or `auto`.
      workdir: a run to use instead of the project's own networks; None for these.
      step: checkpoint of the run, as `sample.step`.
      strength: see `Restorer`.
      fidelity: 1 for faithful networks, 0 for pleasing ones, or between; see `between`.
      pleasing: a run or packed network to use as the pleasing one; None for the project's own.

    Raises:
      UserError: an unknown task, one without a network, a run that restores nothing or something else, or a pleasing
        network that is missing or another one.
    """

    def __init__(
        self,
        task: str,
        workdir: Path | None = None,
        step: int = 0,
        strength: float = 1.0,
        fidelity: float = 1.0,
        pleasing: Path | None = None,
    ):
        self._task, self._strength, self._fidelity, self._pleasing = task, strength, fidelity, pleasing
        self._opened: dict[str, Restorer] = {}
        self._lock = threading.Lock()
        if workdir:
            trained = Trained.open(workdir, step, float32=True, can=Restores)
            self._task = own = trained.model.config.method.task
            if task not in (AUTO, own):
                raise UserError('restore.task', f'the run in {workdir} is for {own!r}', f'set restore.task={own}')
            self._opened[own] = self._restorer(own, trained)
        else:
            choose({AUTO: None, **available()}, task, 'restore.task')
        if not self.tasks:
            known = ', '.join(available())
            raise UserError(
                'restore.task', 'no network that auto could use comes with the project', f'use one of {known}'
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that may be needed."""
        return (self._task,) if self._task != AUTO else tuple(task for task in ORDER if task in available())

    def get(self, task: str) -> Restorer:
        """The network of a task."""
        with self._lock:
            if task not in self._opened:
                self._opened[task] = self._restorer(task, open_packed(available()[task], batch_size=1))
            return self._opened[task]

    def _restorer(self, task: str, faithful: Trained) -> Restorer:
        if self._fidelity == 1:
            return Restorer(faithful, self._strength)
        own = available(PLEASING)
        if not self._pleasing and task not in own:
            reason = f'no pleasing network for {task} comes with the project, only for {", ".join(own) or "none"}'
            raise UserError('restore.fidelity', reason, 'leave it at 1, or name a run in restore.pleasing')
        network = open_network(self._pleasing or own[task], 'restore.pleasing')
        return Restorer(between(faithful, network, self._fidelity), self._strength)

    def digests(self) -> dict[str, str]:
        """Digests of the weights of all that may be needed, by task."""
        return {task: self.get(task).weights for task in self.tasks}

    @property
    def growth(self) -> int:
        """Pixels that come out for each that goes in."""
        return max(SCALES[task] for task in self.tasks) ** 2

    def restore(self, photo: Photo, mask: np.ndarray | None = None) -> Photo:
        """Restores a photo; where the task is `auto`, what its estimate asks for, which its notes say."""
        if self._task != AUTO:
            return self.get(self._task)(photo, mask)
        found = estimate(photo.pixels)
        tasks = [task for task in found.tasks if task in self.tasks]
        for task in tasks:
            photo = self.get(task)(photo)
        return photo.replace(notes=(*photo.notes, f'estimated and done: {" and ".join(tasks) or "nothing to restore"}'))


def between(faithful: Trained, pleasing: Trained, fidelity: float) -> Trained:
    """A network between two: their weights, interpolated.

    Wang et al., "ESRGAN", ECCVW 2018, section 3.4: a network trained for pixels and the one that a discriminator made
    of it are near each other, and so their average is a network too. Its pictures have less noise than the average of
    their pictures.

    Args:
      faithful: of a method that `Restores`.
      pleasing: the same network, trained on from it.
      fidelity: share of the faithful one's weights.

    Raises:
      UserError: they are for different tasks or are different networks.
    """
    task, other = (one.model.config.method.task for one in (faithful, pleasing))
    nets = [one.state.nets['restorer'].ema for one in (faithful, pleasing)]
    if task != other or jax.tree.map(np.shape, nets[0]) != jax.tree.map(np.shape, nets[1]):
        reason = f'{pleasing.workdir} ({other}) is another network than {faithful.workdir} ({task})'
        raise UserError('restore.pleasing', reason, 'name a run of restoration_gan that went on from it')
    ema = jax.tree.map(lambda a, b: fidelity * a + (1 - fidelity) * b, *nets)
    net = faithful.state.nets['restorer'].replace(ema=ema)
    return dataclasses.replace(faithful, state=faithful.state.replace(nets={'restorer': net}))


def open_network(path: Path, field: str) -> Trained:
    """A packed network, or the newest checkpoint of a run.

    Args:
      path: of the file or the workdir.
      field: what names it, for messages.

    Raises:
      UserError: it is neither, or restores nothing.
    """
    if not path.exists():
        raise UserError(field, f'there is no file or workdir {path}')
    if path.is_dir():
        return Trained.open(path, float32=True, can=Restores, field=field, batch_size=1)
    return open_packed(path, batch_size=1)


def available(kind: str = '') -> dict[str, Path]:
    """The files of the project's own networks, by task; `PLEASING` gives those of that kind."""
    return {path.stem: path for path in sorted((FOLDER / kind).glob('*.safetensors'))}
