"""The typed config of a run: every section built, missing ones and missing fields at their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from productgen.config import UserError, build, choose, complete, nearest
from productgen.config.sections import EvalConfig, SampleConfig, TrainConfig
from productgen.core.optim import OptimConfig
from productgen.data.source import DataConfig
from productgen.methods import METHODS
from productgen.methods.base import Family, Sections

# Sections of fixed type besides `method`, `model` and `optim`, whose types depend on the method.
SECTIONS = {'data': DataConfig, 'train': TrainConfig, 'sample': SampleConfig, 'eval': EvalConfig}
MAX_SEED = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Config(Sections):
    """The config of a run.

    Attributes:
      seed: of all randomness.
      data: the `data` section.
      train: the `train` section.
      sample: the `sample` section.
      eval: the `eval` section.
    """

    seed: int = 0
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    sample: SampleConfig = dataclasses.field(default_factory=SampleConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)

    @property
    def family(self) -> Family:
        """The entry of METHODS."""
        return METHODS[self.method.name]

    def to_json(self) -> dict[str, Any]:
        """All values as JSON."""
        return dataclasses.asdict(self)

    def training(self) -> dict[str, Any]:
        """The values that training depends on: all sections but `sample` and `eval`, which only show and measure."""
        return {name: value for name, value in self.to_json().items() if name not in ('sample', 'eval')}


def family_of(config: Mapping[str, Any]) -> tuple[Family, type]:
    """The entry of METHODS that a config names, and the type of its `model` section.

    Raises:
      UserError: an unknown method or `model.name`.
    """
    method = config.get('method', {}).get('name', '')
    if not method:
        raise UserError('method.name', f'missing (known: {", ".join(sorted(METHODS))})')
    family = choose(METHODS, method, 'method.name')
    if not isinstance(family.model, Mapping):
        return family, family.model
    # Without a name, the networks that are called as the method is.
    return family, choose(family.model, config.get('model', {}).get('name', method), 'model.name')


def check_sections(config: Mapping[str, Any], others: tuple[str, ...] = ()) -> None:
    """Raises a UserError for an unknown section, or a value in place of one; `others` are the sections of tasks."""
    known = ('seed', 'method', 'model', 'optim', *SECTIONS, *others)
    for name, section in config.items():
        if name not in known:
            raise UserError(name, f'there is no such section{nearest(name, known)}')
        if name != 'seed' and not isinstance(section, Mapping):
            raise UserError(name, f'expected a section, got {section!r}')


def complete_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with all sections and fields of a run, missing ones at their defaults; values are not checked yet.

    Args:
      config: nested dicts; it must name a method.

    Raises:
      UserError: an unknown section, field or method.
    """
    return _each_section(config, complete)


def resolve(config: Mapping[str, Any]) -> Config:
    """The typed config of nested dicts, such as a `config.json`; what is missing has its default.

    Raises:
      UserError: something that does not exist or cannot be used; the message names the field and what to do.
    """
    values = _each_section(config, build)
    seed = values['seed']
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise UserError('seed', f'expected a whole number from 0 to 2^31 - 1, got {seed!r}')
    return Config(**values)


def _each_section(config: Mapping[str, Any], make: Callable[[type, Mapping[str, Any], str], Any]) -> dict[str, Any]:
    """The seed, and `make(class, section, name)` of every section of a run, those of `optim` by network."""
    check_sections(config)
    family, model = family_of(config)
    optim = config.get('optim', {})
    for name in sorted(set(optim) - set(family.networks)):
        raise UserError(f'optim.{name}', f'there is no such network{nearest(name, family.networks)}')
    classes = {'method': family.method, 'model': model, **SECTIONS}
    return {
        'seed': config.get('seed', 0),
        'optim': {name: make(OptimConfig, optim.get(name, {}), f'optim.{name}') for name in family.networks},
        **{name: make(cls, config.get(name, {}), name) for name, cls in classes.items()},
    }
