"""Checkpoints of the training state, by Orbax: written whole or not at all, checked when read."""

from __future__ import annotations

import errno
import logging
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from productgen.sharding import any_process
from productgen.state import Net, State

_log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message says which and what to do."""


def _checksums(tree: Any) -> dict[str, int]:
    """CRC-32 of every array by its place in the tree."""

    def crc(leaf: jax.Array) -> int:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return zlib.crc32(np.ascontiguousarray(leaf).tobytes())

    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): crc(leaf) for path, leaf in leaves}


def _shapes(tree: Any) -> dict[str, str]:
    """Type and shape of every array by its place in the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): f'{leaf.dtype}{list(leaf.shape)}' for path, leaf in leaves}


class _OtherNetsError(CheckpointError):
    """The checkpoint is sound but of other networks or optimisers than asked for."""


class Checkpoints:
    """The checkpoints of a workdir.

    Frozen networks are not written; a restored state has the template's, see `productgen.setup.with_frozen`.

    Args:
      workdir: they lie in its folder `checkpoints`.
      keep: so many of the newest are kept; at least two, so that a damaged one is no loss.
      writing: whether this process trains there; others leave the folder as it is, half-written checkpoints too.
    """

    def __init__(self, workdir: Path, keep: int = 2, writing: bool = True):
        self._folder = (workdir / 'checkpoints').absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=max(keep, 2) if writing else None,
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
        steps = self.steps() if step is None else [step]
        if step is not None and step not in self.steps():
            raise CheckpointError(f'There is no checkpoint of step {step} in {self._folder}; there are {self.steps()}')
        failures = []
        for candidate in reversed(steps):
            found, reason = None, 'another process cannot read it'
            try:
                found = self._read(candidate, template, to_sample)
            except _OtherNetsError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a damaged file provokes in the reader
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            if not any_process(found is None):
                return found
            failures.append(f'step {candidate}: {reason}')
            _log.warning('The checkpoint of step %d is damaged and is passed over (%s)', candidate, reason)
        if failures:
            raise CheckpointError(f'No checkpoint in {self._folder} can be read: ' + '; '.join(failures))
        return None

    def _read(self, step: int, template: State, to_sample: bool) -> tuple[State, dict[str, Any]]:
        notes = dict(self._manager.restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore()))['notes'])
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
        if any(written.get(place) != value for place, value in _checksums(state).items()):
            raise CheckpointError('its checksums do not match')
        return state.replace(frozen=template.frozen), notes

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

    def close(self) -> None:
        self._manager.close()
