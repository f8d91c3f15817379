"""Checkpoints of the training state, by Orbax: written whole or not at all, checked when read."""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from productgen.core.sharding import any_process, to_host
from productgen.core.state import Net, State

_log = logging.getLogger(__name__)


T = TypeVar('T')
Weights = dict[str, dict[str, dict[str, np.ndarray]]]


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message says which and what to do."""


def has_checkpoint(workdir: Path) -> bool:
    """Whether a run has got as far as its first checkpoint."""
    return any(path.name.isdigit() for path in (workdir / 'checkpoints').glob('*'))


def _crc(array: jax.Array) -> int:
    """CRC-32 of an array's bytes."""
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return zlib.crc32(np.ascontiguousarray(to_host(array)).tobytes())


def _checksums(tree: Any) -> dict[str, int]:
    """CRC-32 of every array by its place in the tree; of arrays that lie on several hosts, all processes must ask."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): _crc(leaf) for path, leaf in leaves}


def _shapes(tree: Any) -> dict[str, str]:
    """Type and shape of every array by its place in the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): f'{leaf.dtype}{list(leaf.shape)}' for path, leaf in leaves}


def _is_sound(found: tuple[State, dict[str, Any], dict[str, int]]) -> bool:
    """Whether a state that was read has the checksums that were written with it."""
    state, _, written = found
    return all(written.get(place) == value for place, value in _checksums(state.replace(frozen={})).items())


class _OtherNetsError(CheckpointError):
    """The checkpoint is sound but of other networks or optimisers than asked for."""


class Checkpoints:
    """The checkpoints of a workdir.

    Frozen networks are not written; a restored state has the template's, see `productgen.setup.with_frozen`.

    Args:
      workdir: they lie in one of its folders.
      keep: so many of the newest are kept, at least two, so that a damaged one is no loss; None keeps all.
      writing: whether this process trains there; others leave the folder as it is, half-written checkpoints too.
      folder: its name.
    """

    def __init__(self, workdir: Path, keep: int | None = 2, writing: bool = True, folder: str = 'checkpoints'):
        self._folder = (workdir / folder).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=max(keep, 2) if writing and keep is not None else None,
            create=writing,
            cleanup_tmp_directories=writing,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def steps(self) -> list[int]:
        """Steps there are checkpoints of, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, notes: dict[str, Any]) -> None:
        """Writes the state and some JSON values, and returns when they are on disk.

        Raises:
          CheckpointError: the disk is full; what was there before is untouched.
        """
        step = int(state.step)
        if step in self.steps():
            return
        state = state.replace(frozen={})
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if free < 1.1 * size + 2**20:
            raise self._full(step, f'it needs about {size / 1e6:.0f} MB, {free / 1e6:.0f} MB are free')
        notes = notes | {'checksums': _checksums(state), 'shapes': _shapes(state)}
        try:
            args = ocp.args.Composite(state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes))
            self._manager.save(step, args=args)
            self._manager.wait_until_finished()
        except Exception as error:
            if getattr(error, 'errno', None) == errno.ENOSPC or 'No space left' in str(error):
                raise self._full(step, 'the disk filled up while it was written') from error
            raise

    def _full(self, step: int, why: str) -> CheckpointError:
        last = max(self.steps(), default=None)
        kept = 'there is no earlier one' if last is None else f'the last good one is of step {last}'
        return CheckpointError(
            f'The checkpoint of step {step} does not fit into {self._folder}: {why}; {kept}. '
            'Free some space and run the same command again: it goes on from there.'
        )

    def restore(
        self, template: State, step: int | None = None, to_sample: bool = False
    ) -> tuple[State, dict[str, Any]] | None:
        """The newest state that can be read, and its notes; None where there is no checkpoint at all.

        Args:
          template: a state of the same structure, of arrays or of shapes with shardings.
          step: only this one.
          to_sample: only what pictures are made from; `params` and `opt` of the networks are then None.

        Raises:
          CheckpointError: there are checkpoints but none is usable, there is none of `step`, or they are of a state
            of another structure.
        """
        found = self._newest(step, lambda candidate: self._read(candidate, template, to_sample), _is_sound)
        return found and found[:2]

    def read_weights(self, step: int | None = None) -> tuple[int, Weights]:
        """Weights, averages and statistics of all networks as NumPy arrays, whatever the networks are.

        Args:
          step: only this one; otherwise the newest that can be read.

        Returns:
          the step, and arrays by network, part (`params`, `ema`, `stats`) and path in the part's tree, such as
          `mapping/dense0/kernel`.

        Raises:
          CheckpointError: there is no checkpoint, or none that can be read.
        """
        found = self._newest(step, self._read_weights)
        if not found:
            raise CheckpointError(f'There is no checkpoint in {self._folder} yet')
        return found

    def _newest(
        self, step: int | None, read: Callable[[int], T], sound: Callable[[T], bool] = lambda found: True
    ) -> T | None:
        """What `read` makes of the newest checkpoint that it can read, or of that of `step`, and that is `sound`.

        Processes read by themselves; only where all have read do they go on to `sound`, in which they may need each
        other.
        """
        steps = self.steps() if step is None else [step]
        if step is not None and step not in self.steps():
            raise CheckpointError(f'There is no checkpoint of step {step} in {self._folder}; there are {self.steps()}')
        failures = []
        for candidate in reversed(steps):
            found, reason = None, 'another process cannot read it'
            try:
                found = read(candidate)
            except _OtherNetsError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a damaged file provokes in the reader
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            if not any_process(found is None):
                if not any_process(not sound(found)):
                    return found
                reason = 'its checksums do not match'
            failures.append(f'step {candidate}: {reason}')
            _log.warning('The checkpoint of step %d is damaged and is passed over (%s)', candidate, reason)
        if failures:
            raise CheckpointError(f'No checkpoint in {self._folder} can be read: ' + '; '.join(failures))
        return None

    def _notes(self, step: int) -> dict[str, Any]:
        return dict(self._manager.restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore()))['notes'])

    def _read_weights(self, step: int) -> tuple[int, Weights]:
        notes, wanted, sums = self._notes(step), {}, {}
        for place, kind in notes['shapes'].items():
            net = re.match(r"\.nets\['(\w+)'\]\.(params|ema|stats)(?=\[)", place)
            if net:
                dtype, shape = kind.split('[', 1)
                keys = [a or b for a, b in re.findall(r"\['(.*?)'\]|\.(\w+)", place[net.end() :])]
                sums[(*net.groups(), '/'.join(keys))] = notes['checksums'][place]
                *parents, name = [*net.groups(), *keys]
                tree = wanted.setdefault('nets', {})
                for parent in parents:
                    tree = tree.setdefault(parent, {})
                tree[name] = np.zeros(json.loads(f'[{shape}'), jnp.dtype(dtype))
        places = jax.tree.map(lambda x: ocp.RestoreArgs(restore_type=np.ndarray, dtype=x.dtype), wanted)
        how = ocp.args.PyTreeRestore(wanted, restore_args=places, partial_restore=True)
        nets = self._manager.restore(step, args=ocp.args.Composite(state=how))['state']['nets']
        found = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(nets):
            net, part, place = jax.tree_util.keystr(path, simple=True, separator='/').split('/', 2)
            if _crc(leaf) != sums[net, part, place]:
                raise CheckpointError('its checksums do not match')
            found.setdefault(net, {}).setdefault(part, {})[place] = leaf
        return step, found

    def _read(self, step: int, template: State, to_sample: bool) -> tuple[State, dict[str, Any], dict[str, int]]:
        """State, notes, and the checksums that were written with it."""
        notes = self._notes(step)
        written, shapes = notes.pop('checksums'), notes.pop('shapes')
        nets = template.nets
        if to_sample:
            nets = {name: net.replace(params=None, opt=None) for name, net in nets.items()}
        for place, shape in _shapes(template.replace(frozen={}, nets=nets)).items():
            if shapes.get(place) != shape:
                raise _OtherNetsError(
                    f'The checkpoint of step {step} in {self._folder} is of other networks: {place} is '
                    f'{shapes.get(place, "not there")}, not {shape}. Set method, model, optim and data as they were, '
                    'or choose another --workdir.'
                )
        if to_sample:
            nets = {name: {'stats': net.stats, 'ema': net.ema} for name, net in template.nets.items()}
            wanted = {'step': template.step, 'nets': nets, 'extra': template.extra}
            places = ocp.checkpoint_utils.construct_restore_args(wanted)
            how = ocp.args.PyTreeRestore(wanted, restore_args=places, partial_restore=True)
        else:
            how = ocp.args.StandardRestore(template.replace(frozen={}))
        state = self._manager.restore(step, args=ocp.args.Composite(state=how))['state']
        if to_sample:
            nets = {name: Net(params=None, opt=None, **parts) for name, parts in state['nets'].items()}
            state = State(step=state['step'], nets=nets, extra=state['extra'], frozen={})
        return state.replace(frozen=template.frozen), notes, written

    def set_aside_after(self, step: int) -> None:
        """Moves checkpoints newer than `step`, the damaged ones that `restore` passed over, to the folder `damaged`.

        Every process calls it; the first one moves.
        """
        for other in [s for s in self.steps() if s > step and jax.process_index() == 0]:
            target = self._folder.parent / 'damaged' / str(other)
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            (self._folder / str(other)).rename(target)
            _log.warning('The damaged checkpoint of step %d is now in %s', other, target)
        any_process(False)  # all wait until they are moved
        self._manager.reload()

    def keep_only(self, wanted: Callable[[int], bool]) -> None:
        """Deletes the checkpoints of all other steps."""
        for step in [s for s in self.steps() if not wanted(s)]:
            self._manager.delete(step)

    def close(self) -> None:
        self._manager.close()
