"""Training that starts from the weights of another run: other photos, other labels, another size.

Arrays are matched by their path in each network: parameters, averages and statistics. Arrays with an axis of label
values are copied value by value, by name, so that what was learned of `mug` is kept where the new photos have that
label too. Everything else is newly initialised, and so are optimisers, step and the method's own state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from pathlib import Path

import jax
import numpy as np

from productgen.config import UserError, nearest
from productgen.core.checkpoint import Weights
from productgen.core.paths import leaf_path, named_leaves
from productgen.core.sharding import to_host
from productgen.core.state import Net, State
from productgen.data.labels import LabelTable
from productgen.model.prepared import Prepared, prepare
from productgen.model.workdir import checkpoints_of, parse_run, read_config, read_facts
from productgen.train.run import Run

_log = logging.getLogger('productgen')
Place = tuple[str, str, str]
_PARTS = ('params', 'ema', 'stats')
_NAMED = 20  # fresh arrays that the log lists


@dataclasses.dataclass(frozen=True)
class Inherited:
    """What a run takes from another one.

    Attributes:
      origin: workdir and step, for the log.
      values: the other run's arrays by network, part and path.
      rows: for arrays with an axis of label values: that axis, the old indices of the values copied, and the new ones.
      fresh: number of parameters in each array of the chosen networks that nothing fits.
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
        summary = ', '.join(f'{len(p)} arrays ({sum(p.values()):,} numbers) {name}' for name, p in parts.items())
        names = ['.'.join(place) for place in self.fresh]
        names = names if len(names) <= _NAMED else [*names[:_NAMED], '...']
        level = logging.WARNING if names else logging.INFO
        _log.log(level, 'From %s: %s%s', self.origin, summary, f': {", ".join(names)}' if names else '')
        return state.replace(nets=nets)

    def _part(self, name: str, net: Net, part: str):
        def fill(path, leaf):
            place = name, part, leaf_path(path)
            if place not in self.values:
                return leaf
            value = self.values[place]
            if place in self.rows:
                axis, old, new = self.rows[place]
                value, given = to_host(leaf).copy(), value
                np.moveaxis(value, axis, 0)[new] = np.moveaxis(given, axis, 0)[old]
            return jax.device_put(value, leaf.sharding)

        return jax.tree_util.tree_map_with_path(fill, getattr(net, part))


def inherit(run: Run) -> Inherited | None:
    """Reads what `train.init_from` names and finds what of it fits; None where it is empty.

    Args:
      run: what is to be trained.

    Raises:
      UserError: no run there, an unknown network, nothing fits, or a network that is never trained has no origin.
      CheckpointError: no checkpoint can be read.
    """
    train = run.config.train
    field = f'train.init_from={train.init_from}'
    workdir, step = parse_run(train.init_from, 'train.init_from')
    if workdir is None:
        if train.init_from.strip():
            raise UserError(field, 'which run? Give WORKDIR or WORKDIR:STEP')
        if run.method.untrained:
            names = ','.join(run.method.untrained)
            raise UserError(
                'train.init_from',
                f'the config never trains {names}, so it must come from another run',
                f'give its workdir, with train.init_nets={names}',
            )
        return None
    state, names = run.abstract()[0], [n.strip() for n in train.init_nets.split(',') if n.strip()]
    names = list(state.nets) if names == ['all'] else names
    for name in names:
        if name not in state.nets:
            raise UserError('train.init_nets', f'there is no network {name!r}{nearest(name, ["all", *state.nets])}')
    try:
        config, facts = read_config(workdir), read_facts(workdir)
    except UserError as error:
        raise error.at(field, f'--workdir={workdir}') from None
    checkpoints, step = checkpoints_of(workdir, step)
    with contextlib.closing(checkpoints):
        found, weights = checkpoints.read_weights(step)
    table = run.facts.labels
    axes = {} if table.same_values(facts.labels) else _label_axes(run, state)
    inherited = _match(state, weights, names, axes, (facts.labels, table), f'{workdir}, step {found}')
    taken, fresh = ({place[0] for place in places} for places in (inherited.values, inherited.fresh))
    for name in names:
        if name not in taken:
            raise UserError(
                field,
                f'no array of {name!r} fits; that run has the networks {", ".join(weights) or "none"} '
                '(see train.init_nets)',
            )
    for name in run.method.untrained:
        own = named_leaves(state.nets[name].params).keys()
        if name not in taken or name in fresh or weights[name].get('params', {}).keys() != own:
            raise UserError(
                field,
                f'{name!r} is never trained here and has to come whole from there, but not all of it fits',
                'give it the same sections as that run, and name it in train.init_nets',
            )
    if run.method.untrained:
        _check_conventions(run, prepare(config, facts, devices=1), workdir)
    return inherited


def _check_conventions(run: Run, other: Prepared, workdir: Path) -> None:
    """Raises a UserError where the outputs of a network that is never trained mean something else in this run."""
    here, there = run.method.conventions(), other.method.conventions()
    for name in run.method.untrained:
        for key, value in here.get(name, {}).items():
            before = there.get(name, {}).get(key, value)
            if before != value:
                raise UserError(
                    f'method.{name}.{key}',
                    f'{value!r}, but {name!r} was trained for {before!r} in {workdir}',
                    'set it to that',
                )


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
            for path, leaf in named_leaves(getattr(state.nets[name], part)).items():
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


def _label_axes(run: Run, state: State) -> dict[Place, int]:
    """The axis of label values of every array that has one: the axis that is longer with one more value."""
    more = {name: (*values, '') for name, values in run.facts.labels.attributes.items()}
    table = dataclasses.replace(run.facts.labels, attributes=more)
    grown = prepare(run.config, dataclasses.replace(run.facts, labels=table)).abstract()[0]
    axes = {}
    for name, net in state.nets.items():
        for part in _PARTS:
            larger = named_leaves(getattr(grown.nets[name], part))
            for path, leaf in named_leaves(getattr(net, part)).items():
                changed = [i for i, (a, b) in enumerate(zip(leaf.shape, larger[path].shape, strict=True)) if a != b]
                if len(changed) == 1:
                    axes[name, part, path] = changed[0]
    return axes


def _common_values(old: LabelTable, new: LabelTable) -> list[tuple[int, int]]:
    """Places, among the values of all attributes side by side, of the values both tables have: (old, new)."""
    places = lambda table: [(name, value) for name, values in table.attributes.items() for value in values]
    before = {pair: i for i, pair in enumerate(places(old))}
    return [(before[pair], i) for i, pair in enumerate(places(new)) if pair in before]
