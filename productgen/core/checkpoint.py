"""Checkpoints of the training state, by Orbax: written completely or not at all, and checked when they are read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from productgen.config import UserError
from productgen.config.text import first_line
from productgen.core.files import PlainPath, describe_disk, system_error
from productgen.core.paths import from_keystr, named_leaves, split_path
from productgen.core.sharding import any_process, to_host
from productgen.core.state import Net, State

_log = logging.getLogger(__name__)

# Version of the notes of a checkpoint. They name its arrays by `leaf_path`; version 1, whose notes have no number, by
# `jax.tree_util.keystr`.
FORMAT = 2

_PARTS = ('params', 'stats', 'opt', 'ema')  # of a network
_SAMPLED = ('stats', 'ema')  # those that pictures are made from
_WEIGHT = re.compile('nets/[^/]+/(params|ema)/')
_WEIGHT_OR_STATISTIC = re.compile('nets/[^/]+/(params|ema|stats)/')

Weights = dict[str, dict[str, dict[str, np.ndarray]]]


class CheckpointError(UserError):
    """A checkpoint that cannot be written or read; `field` is its folder."""


class _UnsuitableError(CheckpointError):
    """A checkpoint that is not damaged and yet cannot be used; an older one would not help."""


@dataclasses.dataclass(frozen=True)
class _Notes:
    """What is stored along with the arrays of a checkpoint.

    Attributes:
      values: the values that `save` was given.
      checksums: CRC-32 of each array by its path.
      kinds: dtype and shape of each array by its path, `float32[3, 4]`.
    """

    values: dict[str, Any]
    checksums: dict[str, int]
    kinds: dict[str, str]

    def match(self, tree: Any) -> bool:
        """Whether arrays have the checksums that were written with them."""
        return all(self.checksums.get(path) == value for path, value in _checksums(tree).items())


@dataclasses.dataclass(frozen=True)
class _Found:
    """What was read of a checkpoint: its step, some of its arrays, and its notes."""

    step: int
    arrays: Any
    notes: _Notes


def has_checkpoint(workdir: Path) -> bool:
    """Whether a run has written its first checkpoint."""
    return any(path.name.isdigit() for path in (workdir / 'checkpoints').glob('*'))


def _crc(array: jax.Array) -> int:
    """CRC-32 of an array's bytes."""
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return zlib.crc32(np.ascontiguousarray(to_host(array)).tobytes())


def _checksums(tree: Any) -> dict[str, int]:
    """CRC-32 of every array by its path; where arrays lie on several hosts, every process must call it."""
    return {path: _crc(leaf) for path, leaf in named_leaves(tree).items()}


def _kinds(tree: Any) -> dict[str, str]:
    """Dtype and shape of every array by its path."""
    return {path: f'{leaf.dtype}{list(leaf.shape)}' for path, leaf in named_leaves(tree).items()}


def _wanted(template: State, parts: tuple[str, ...]) -> dict[str, Any]:
    """What is to be restored of a state, some parts of each network, as dicts.

    Empty parts are left out: Orbax restores an empty node only from an empty node.
    """
    nets = {name: _not_empty({part: getattr(net, part) for part in parts}) for name, net in template.nets.items()}
    return _not_empty({'step': template.step, 'nets': _not_empty(nets), 'extra': template.extra})


def _not_empty(trees: dict[str, Any]) -> dict[str, Any]:
    return {name: tree for name, tree in trees.items() if jax.tree.leaves(tree)}


def _filled(template: State, parts: tuple[str, ...], arrays: dict[str, Any]) -> State:
    """The state of `_wanted` arrays; other parts of the networks are None."""

    def fill(name: str, net: Net) -> Net:
        found = arrays.get('nets', {}).get(name, {})
        return Net(**{part: found.get(part, getattr(net, part)) if part in parts else None for part in _PARTS})

    nets = {name: fill(name, net) for name, net in template.nets.items()}
    return State(arrays['step'], nets, arrays.get('extra', template.extra), template.frozen)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the threads of Orbax from logging the traceback of an error that is raised as well."""
    logger, silent = logging.getLogger('absl'), lambda record: False
    logger.addFilter(silent)
    try:
        yield
    finally:
        logger.removeFilter(silent)


class Checkpoints:
    """The checkpoints of a workdir.

    `State.frozen` is not written; a restored state has that of the template, see `Prepared.with_frozen`.

    Args:
      workdir: the folder that has the folder of the checkpoints in it.
      keep: how many of the newest are kept, at least two, so that a damaged one is no loss; None keeps all.
      writing: whether this process trains there. Otherwise it changes nothing in the folder, and leaves incomplete
        checkpoints where they are.
      folder: name of the folder of the checkpoints.
    """

    def __init__(self, workdir: Path, keep: int | None = 2, writing: bool = True, folder: str = 'checkpoints'):
        self._folder = (workdir / folder).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=max(keep, 2) if writing and keep is not None else None,
            create=writing,
            cleanup_tmp_directories=writing,
            enable_async_checkpointing=False,
        )
        # The handler that reads can leave out arrays. The last one is named in the files, so it is the one that writes.
        handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
        handlers.add('state', ocp.args.PyTreeRestore, ocp.PyTreeCheckpointHandler())
        handlers.add('state', ocp.args.StandardSave, ocp.StandardCheckpointHandler())
        if writing:
            workdir.mkdir(parents=True, exist_ok=True)
        self._plain = PlainPath(self._folder)
        self._manager = ocp.CheckpointManager(self._plain.path, options=options, handler_registry=handlers)

    def steps(self) -> list[int]:
        """Steps of the checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, notes: dict[str, Any]) -> None:
        """Writes the state and some JSON values, and returns when they are on disk and have been read back.

        Raises:
          CheckpointError: the disk is full or fails, or what was written cannot be read; earlier checkpoints are
            untouched.
        """
        step = int(state.step)
        if step in self.steps():
            return
        state = state.replace(frozen={})
        needed = 1.1 * sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**20
        notes = notes | {'format': FORMAT, 'checksums': _checksums(state), 'shapes': _kinds(state)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free < needed:
                raise self._unwritten(step, f'it needs about {needed / 1e6:.0f} MB')
            with _quiet():
                args = ocp.args.Composite(state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes))
                self._manager.save(step, args=args)
                self._manager.wait_until_finished()
        except CheckpointError:
            raise
        except Exception as error:
            why = system_error(error)
            if not why:
                raise
            for incomplete in self._folder.glob(f'{step}.*'):  # it may have taken the last of the disk
                shutil.rmtree(incomplete, ignore_errors=True)
            raise self._unwritten(step, why) from error
        reason = self._difference(step, state, notes) if jax.process_index() == 0 else ''
        if any_process(bool(reason)):
            raise self._unwritten(step, f'it cannot be read back ({reason or "see the first process"})')

    def _unwritten(self, step: int, why: str) -> CheckpointError:
        # Of the training, whichever folder this is: that is where it resumes from.
        steps = [int(path.name) for path in (self._folder.parent / 'checkpoints').glob('*') if path.name.isdigit()]
        last = max((other for other in steps if other != step), default=None)
        kept = 'there is no earlier one' if last is None else f'the last good one is of step {last}'
        return CheckpointError(
            str(self._folder),
            f'the checkpoint of step {step} cannot be written: {why}; {describe_disk(self._folder)}; {kept}',
            'make room or choose another disk, and run the same command again'
            + (': it resumes from there' if steps else ''),
        )

    def _difference(self, step: int, state: State, notes: dict[str, Any]) -> str:
        """What differs between a state with its notes and their checkpoint; empty where nothing does.

        Read by the first process alone, and on the host: on a device there may be no room for a second state.
        """

        def how(leaf: Any) -> ocp.RestoreArgs:
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # small, and no NumPy array
                return ocp.checkpoint_utils.construct_restore_args(leaf)
            return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)

        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
        try:
            folder, wanted = self._plain.path / str(step), _wanted(state, _PARTS)
            found = ocp.JsonCheckpointHandler(multiprocessing_options=alone).restore(folder / 'notes')
            args = ocp.args.PyTreeRestore(wanted, restore_args=jax.tree.map(how, wanted), partial_restore=True)
            arrays = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone).restore(folder / 'state', args=args)
            same = found == json.loads(json.dumps(notes)) and _checksums(arrays) == notes['checksums']
        except Exception as error:  # noqa: BLE001 - whatever a reader raises is the answer
            return first_line(error)
        return '' if same else 'it differs from what was written'

    def restore(
        self, template: State, step: int | None = None, to_sample: bool = False
    ) -> tuple[State, dict[str, Any]] | None:
        """Reads the newest state that is not damaged.

        Arrays of the checkpoint that the template lacks are not read, except that a network may not have more weights
        there than here.

        Args:
          template: a state of arrays, or of shapes with shardings; each array is restored with its sharding.
          step: only the checkpoint of this step.
          to_sample: only what pictures are made from; `params` and `opt` of the networks are then None.

        Returns:
          the state, and the JSON values written with it; None where there is no checkpoint.

        Raises:
          CheckpointError: every checkpoint is damaged, there is none of `step`, or an array of the template is absent
            from it or of another shape or dtype.
        """
        parts = _SAMPLED if to_sample else _PARTS
        found = self._newest(step, lambda candidate: self._read_state(candidate, template, parts))
        return (_filled(template, parts, found.arrays), found.notes.values) if found else None

    def read_weights(self, step: int | None = None) -> tuple[int, Weights]:
        """Weights, averages and statistics of all networks as NumPy arrays, whatever the networks are.

        Args:
          step: only the checkpoint of this step; otherwise the newest that is not damaged.

        Returns:
          the step, and arrays by network, part (`params`, `ema`, `stats`) and path in the part's tree, such as
          `mapping/dense0/kernel`.

        Raises:
          CheckpointError: there is no checkpoint, or every one is damaged.
        """
        found = self._newest(step, self._read_weights)
        if not found:
            raise CheckpointError(str(self._folder), 'there is no checkpoint in it yet')
        weights: Weights = {}
        for path, array in named_leaves(found.arrays).items():
            _, net, part, rest = path.split('/', 3)
            weights.setdefault(net, {}).setdefault(part, {})[rest] = array
        return found.step, weights

    def _newest(self, step: int | None, read: Callable[[int], _Found]) -> _Found | None:
        """The newest checkpoint, or that of `step`, that can be read and has the right checksums.

        Each process reads by itself. Checksums of arrays that lie on several hosts need all processes, so they are
        taken only where all could read.
        """
        folder, steps = str(self._folder), self.steps()
        if step is not None and step not in steps:
            raise CheckpointError(folder, f'there is no checkpoint of step {step} in it', f'choose one of {steps}')
        failures = []
        for candidate in reversed(steps if step is None else [step]):
            found, reason = None, 'another process cannot read it'
            try:
                found = read(candidate)
            except _UnsuitableError:
                raise
            except Exception as error:  # noqa: BLE001 - a damaged file can make the reader raise anything
                reason = first_line(error)
            if not any_process(found is None):
                if not any_process(not found.notes.match(found.arrays)):
                    return found
                reason = 'its checksums do not match'
            failures.append(f'step {candidate}: {reason}')
            _log.warning('The checkpoint of step %d is damaged and is skipped (%s)', candidate, reason)
        if failures:
            raise CheckpointError(
                folder,
                f'no checkpoint in it can be read: {"; ".join(failures)}',
                'put a copy of one back, or train again in another --workdir',
            )
        return None

    def _read_state(self, step: int, template: State, parts: tuple[str, ...]) -> _Found:
        notes, wanted = self._read_notes(step), _wanted(template, parts)
        self._check_kinds(step, _kinds(wanted), notes.kinds)
        return _Found(step, self._read_arrays(step, wanted, ocp.checkpoint_utils.construct_restore_args(wanted)), notes)

    def _read_weights(self, step: int) -> _Found:
        notes, wanted = self._read_notes(step), {}
        for path, kind in notes.kinds.items():
            if _WEIGHT_OR_STATISTIC.match(path):
                dtype, shape = kind.split('[', 1)
                *parents, name = split_path(path)
                tree = wanted
                for parent in parents:
                    tree = tree.setdefault(parent, {})
                tree[name] = np.zeros(json.loads(f'[{shape}'), jnp.dtype(dtype))
        how = jax.tree.map(lambda x: ocp.RestoreArgs(restore_type=np.ndarray, dtype=x.dtype), wanted)
        return _Found(step, self._read_arrays(step, wanted, how), notes)

    def _read_notes(self, step: int) -> _Notes:
        values = dict(self._manager.restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore()))['notes'])
        written, checksums, kinds = values.pop('format', 1), values.pop('checksums'), values.pop('shapes')
        if written > FORMAT:
            raise _UnsuitableError(
                str(self._folder),
                f'the checkpoint of step {step} is of format {written}, and this version reads up to {FORMAT}',
                'use the version of productgen that wrote it, or a newer one',
            )
        if written == 1:
            checksums, kinds = ({from_keystr(path): x for path, x in d.items()} for d in (checksums, kinds))
        return _Notes(values, checksums, kinds)

    def _check_kinds(self, step: int, here: dict[str, str], there: dict[str, str]) -> None:
        """Checks that a checkpoint has the arrays that are to be restored, and that no network has more weights."""
        complete = {match[0] for match in map(_WEIGHT.match, here) if match}
        more = [path for path in there if (match := _WEIGHT.match(path)) and match[0] in complete]
        # Parameters first: the other parts of a network differ as they do.
        for path in sorted((*here, *more), key=lambda path: '/params/' not in path):
            old, new = there.get(path, 'absent'), here.get(path, 'absent')
            if old != new:
                raise _UnsuitableError(
                    str(self._folder),
                    f'the checkpoint of step {step} is of other networks or optimisers: {path} is {old}, not {new}',
                    'set method, model, optim and data as they were, or choose another --workdir',
                )

    def _read_arrays(self, step: int, wanted: Any, how: Any) -> Any:
        """The arrays of a checkpoint that are leaves of `wanted`."""
        args = ocp.args.PyTreeRestore(wanted, restore_args=how, partial_restore=True)
        return self._manager.restore(step, args=ocp.args.Composite(state=args))['state']

    def set_aside_after(self, step: int) -> None:
        """Moves checkpoints newer than `step`, the damaged ones that `restore` skipped, to the folder `damaged`.

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
        """Deletes the checkpoints of all steps that are not `wanted`."""
        for step in [s for s in self.steps() if not wanted(s)]:
            self._manager.delete(step)

    def close(self) -> None:
        """Releases what reading and writing holds; the object cannot be used afterwards."""
        self._manager.close()
        self._plain.close()
