"""Training that starts from the weights of another run: other photos, other labels, another size.

What fits is taken, by the path of each array in its network: parameters, averages and statistics. Arrays that grow with
the number of label values are carried over value by value, by name, so that a network goes on to know what a `mug` is
where the new photos show mugs too. Everything else starts fresh, and so do optimisers, step and the method's own state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from productgen.config import UserError, nearest
from productgen.core.checkpoint import Weights
from productgen.core.sharding import to_host
from productgen.core.state import Net, State
from productgen.data.labels import LabelTable
from productgen.model.prepared import abstract_state, prepare_model
from productgen.model.workdir import checkpoints_of, parse_run, read_config, read_labels
from productgen.train.run import Run

_log = logging.getLogger('productgen')
Place = tuple[str, str, str]
_PARTS = ('params', 'ema', 'stats')
_NAMED = 20  # fresh arrays that the log lists


@dataclasses.dataclass(frozen=True)
class Inherited:
    """What a run takes over from another one.

    Attributes:
      origin: workdir and step, for the log.
      values: the other run's arrays by network, part and path.
      rows: for arrays with an axis of label values, that axis, the old places of the values carried over, and the new.
      fresh: parameters in arrays of the chosen networks that nothing fits.
    """

    origin: str
    values: dict[Place, np.ndarray]
    rows: dict[Place, tuple[int, list[int], list[int]]]
    fresh: dict[Place, int]

    def give(self, state: State) -> State:
        """A state at step 0 with the inherited arrays in their places."""
        nets = {name: net.replace(**{p: self._part(name, net, p) for p in _PARTS}) for name, net in state.nets.items()}
        sizes = {place: value.size for place, value in self.values.items()}
        whole = {place: size for place, size in sizes.items() if place not in self.rows}
        adapted = {place: sizes[place] for place in self.rows}
        parts = {'taken': whole, 'adapted to the labels': adapted, 'fresh': self.fresh}
        told = ', '.join(f'{len(p)} arrays ({sum(p.values()):,} numbers) {name}' for name, p in parts.items())
        names = ['.'.join(place) for place in self.fresh]
        names = names if len(names) <= _NAMED else [*names[:_NAMED], '...']
        level = logging.WARNING if names else logging.INFO
        _log.log(level, 'From %s: %s%s', self.origin, told, f': {", ".join(names)}' if names else '')
        return state.replace(nets=nets)

    def _part(self, name: str, net: Net, part: str):
        def fill(path, leaf):
            place = name, part, _path(path)
            if place not in self.values:
                return leaf
            value = self.values[place]
            if place in self.rows:
                axis, old, new = self.rows[place]
                value, given = to_host(leaf).copy(), value
                np.moveaxis(value, axis, 0)[new] = np.moveaxis(given, axis, 0)[old]
            return jax.device_put(value, leaf.sharding)

        return jax.tree_util.tree_map_with_path(fill, getattr(net, part))


def inherit(config: Mapping[str, Any], run: Run) -> Inherited | None:
    """Reads what `train.init_from` names and finds what of it fits; None where it is empty.

    Args:
      config: all sections of the run.
      run: what was prepared from it.

    Raises:
      UserError: no run there, an unknown network, or nothing fits.
      CheckpointError: no checkpoint can be read.
    """
    field = f'train.init_from={run.train.init_from}'
    workdir, step = parse_run(run.train.init_from, 'train.init_from')
    if workdir is None:
        if run.train.init_from.strip():
            raise UserError(f'{field}', 'which run? Give WORKDIR or WORKDIR:STEP')
        return None
    state, names = abstract_state(run)[0], [n.strip() for n in run.train.init_nets.split(',') if n.strip()]
    names = list(state.nets) if names == ['all'] else names
    for name in names:
        if name not in state.nets:
            raise UserError('train.init_nets', f'there is no network {name!r}{nearest(name, ["all", *state.nets])}')
    try:
        table = read_labels(workdir)
    except UserError as error:
        raise UserError(f'{field}', f'{str(error).removeprefix(f"--workdir={workdir}: ")}') from None
    checkpoints, step = checkpoints_of(workdir, step)
    with contextlib.closing(checkpoints):
        found, weights = checkpoints.read_weights(step)
    axes = {} if run.table.same_values(table) else _label_axes(config, run, state)
    inherited = _match(state, weights, names, axes, (table, run.table), f'{workdir}, step {found}')
    taken, fresh = ({place[0] for place in places} for places in (inherited.values, inherited.fresh))
    for name in names:
        if name not in taken:
            raise UserError(
                f'{field}',
                f'no array of {name!r} fits',
                f'that run has the networks {", ".join(weights) or "none"} (see train.init_nets)',
            )
    for name in getattr(run.method, 'untrained', ()):
        own = _leaves(state.nets[name].params).keys()
        if name not in taken or name in fresh or weights[name].get('params', {}).keys() != own:
            raise UserError(
                f'{field}',
                f'{name!r} is never trained here and has to come whole from there, but not all of it fits',
                'give it the same sections as that run, and name it in train.init_nets',
            )
        # What its outputs mean, which no shape tells.
        old, new = (_likelihood(c['method'], name) for c in (read_config(workdir), config))
        if old != new:
            raise UserError(
                f'method.{name}.likelihood',
                f'{new!r}, but {name!r} was trained for {old!r} in {workdir}',
                'set it to that',
            )
    return inherited


def _likelihood(method: Mapping[str, Any], name: str) -> str | None:
    """That of a network, whose settings are a section of its own or the whole `method` section."""
    return method.get(name, method).get('likelihood')


def _match(
    state: State,
    weights: Weights,
    names: list[str],
    axes: dict[Place, int],
    tables: tuple[LabelTable, LabelTable],
    origin: str,
) -> Inherited:
    """What of the weights fits which array of the state; `tables` are the old labels and the new ones."""
    values, rows, fresh = {}, {}, {}
    sizes, pairs = tuple(sum(table.sizes) for table in tables), _common_values(*tables)
    for name in names:
        given = dict(weights.get(name, {}))
        given.setdefault('ema', given.get('params', {}))  # of a network that had no average before
        for part in _PARTS:
            for path, leaf in _leaves(getattr(state.nets[name], part)).items():
                place, old = (name, part, path), given.get(part, {}).get(path)
                axis = axes.get(place)
                labelled = axis is not None and leaf.shape[axis] == sizes[1]
                expected = list(leaf.shape)
                if labelled:
                    expected[axis] = sizes[0]
                fits = old is not None and old.dtype == leaf.dtype and list(old.shape) == expected
                if not fits or (labelled and not pairs):
                    fresh[place] = leaf.size
                    continue
                values[place] = old
                if labelled:
                    rows[place] = axis, [before for before, _ in pairs], [now for _, now in pairs]
    return Inherited(origin, values, rows, fresh)


def _label_axes(config: Mapping[str, Any], run: Run, state: State) -> dict[Place, int]:
    """The axis of label values of every array that has one: that which is longer with one value more."""
    more = {name: (*values, '') for name, values in run.table.attributes.items()}
    grown = abstract_state(prepare_model(config, dataclasses.replace(run.table, attributes=more)))[0]
    axes = {}
    for name, net in state.nets.items():
        for part in _PARTS:
            larger = _leaves(getattr(grown.nets[name], part))
            for path, leaf in _leaves(getattr(net, part)).items():
                changed = [i for i, (a, b) in enumerate(zip(leaf.shape, larger[path].shape, strict=True)) if a != b]
                if len(changed) == 1:
                    axes[name, part, path] = changed[0]
    return axes


def _common_values(old: LabelTable, new: LabelTable) -> list[tuple[int, int]]:
    """Places, among the values of all attributes side by side, of the values both tables have: (old, new)."""
    places = lambda table: [(name, value) for name, values in table.attributes.items() for value in values]
    before = {pair: i for i, pair in enumerate(places(old))}
    return [(before[pair], i) for i, pair in enumerate(places(new)) if pair in before]


def _leaves(tree) -> dict[str, jax.Array]:
    return {_path(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _path(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator='/')
