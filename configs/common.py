"""What config files share: argument strings, and sections with their defaults."""

from __future__ import annotations

import difflib
import re

from ml_collections import ConfigDict


def parse_arg(arg: str | None, one: bool = False, **defaults):
    """Parses the part after the colon of `--config=FILE:ARG`, strictly.

    `quick` sets a flag, `res=64` a value; several are separated by commas. Every name must be among `defaults`, whose
    values also give the types; `res` is a size. With `one` they exclude each other.

    Raises:
      ValueError: an unknown name, a value of another type, or names that exclude each other.
    """
    values, names = dict(defaults), set()
    for item in filter(None, (arg or '').split(',')):
        name, given, text = item.partition('=')
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, 1, 0.5)
            hint = f'did you mean {near[0]!r}? ' if near else ''
            raise ValueError(f'config argument {item!r}: there is no {name!r}; {hint}(known: {", ".join(defaults)})')
        names.add(name)
        kind = type(defaults[name])
        if kind is bool:
            if given:
                raise ValueError(f'config argument {item!r}: {name} takes no value')
            values[name] = True
            continue
        try:
            values[name] = kind(text)
        except ValueError:
            text = ''
        if not given or text == '':
            raise ValueError(f'config argument {item!r}: expected {name}={kind.__name__}')
    if one and len(names) > 1:
        raise ValueError(f'config argument {arg!r}: choose one of {", ".join(defaults)}')
    if 'res' in names and not re.fullmatch(r'\d+(x\d+)?', str(values['res'])):
        raise ValueError(f'config argument {arg!r}: res is a size such as 128, or WIDTHxHEIGHT such as 96x128')
    return ConfigDict(values)


def data_section(resolution: str) -> ConfigDict:
    """The `data` section; see `productgen.data.source.DataConfig`."""
    section = {
        'source': 'catalog',
        'resolution': resolution,
        'fit': 'pad',
        'background': 'white',
        'labels': 'auto',
        'group': '',
        'validation': 0.1,
        'balance': 0.0,
        'catalog_items': 20_000,
        'cache_gb': 4.0,
        'workers': 2,
    }
    return ConfigDict(section)


def gan_section(**changes) -> ConfigDict:
    """The `method` section of adversarial methods; see `productgen.methods.gan.GanConfig`."""
    section = {
        'name': 'gan',
        'loss': 'non_saturating',
        'penalty': 'none',
        'penalty_weight': '0',
        'penalty_interval': 1,
        'critic_steps': 1,
        'clip_weights': 0.0,
        'classification': 1.0,
        'transition_kimg': '',
        'anneal': 1.0,
        'ema_kimg': '5',
        'ema_rampup': 0.05,
        'augment': {'name': 'none', 'transforms': '', 'p': '0', 'target': 0.6, 'adjust_kimg': 500.0},
    }
    return ConfigDict(section | _known(changes, section))


def optimizer(learning_rate: float, **changes) -> ConfigDict:
    """An optimiser's section, Adam unless changed; see `productgen.core.optim.OptimConfig`."""
    section = {
        'name': 'adam',
        'learning_rate': learning_rate,
        'b1': 0.9,
        'b2': 0.999,
        'eps': 1e-8,
        'weight_decay': 0.0,
        'clip': 0.0,
        'schedule': 'constant',
        'warmup': 0.0,
        'anneal': 1.0,
        'end': 0.0,
        'end_b2': -1.0,
        'freeze': '',
    }
    return ConfigDict(section | _known(changes, section))


def train_section(**changes) -> ConfigDict:
    """The `train` section; see `productgen.config.sections.TrainConfig`."""
    section = {
        'batch_size': 32,
        'accumulate': 1,
        'duration': '100kimg',
        'log_every': '1kimg',
        'sample_every': '5kimg',
        'checkpoint_every': '10kimg',
        'keep': 2,
        'grid_columns': 8,
        'grid_rows': 16,
        'init_from': '',
        'init_nets': 'all',
        'validate_every': '',
        'validate_items': 1000,
        'stop_on': '',
        'patience': 5,
        'shard_state': False,
    }
    return ConfigDict(section | _known(changes, section))


def shorten(config: ConfigDict, duration: str, every: str) -> None:
    """Makes a `quick` variant: `duration` in all, a sample grid and a checkpoint `every` so much."""
    config.train.update(duration=duration, sample_every=every, checkpoint_every=every)


def _known(changes: dict, section: dict) -> dict:
    """The changes, which must be of fields that the section has."""
    unknown = set(changes) - set(section)
    if unknown:
        raise TypeError(f'there is no {", ".join(sorted(unknown))} among {", ".join(section)}')
    return changes


def sample_section(truncation: float = 1.0) -> ConfigDict:
    """The `sample` section; see `productgen.config.sections.SampleConfig`."""
    section = {
        'seeds': '0-63',
        'labels': '',
        'truncation': truncation,
        'guidance': 1.0,
        'denoising_steps': 50,
        'output': 'grid',
        'columns': 8,
        'batch_size': 32,
        'mix_layers': '0-3',
        'frames': 24,
        'fps': 24,
        'format': 'gif',
        'out': '',
        'step': 0,
        'also': '',
        'combine': 'mixture',
    }
    return ConfigDict(section)


def eval_section() -> ConfigDict:
    """The `eval` section; see `productgen.config.sections.EvalConfig`."""
    section = {
        'features': '',
        'images': '',
        'originals': '',
        'reference': 'train',
        'count': 2000,
        'floor': True,
        'truncation': 1.0,
        'truncations': '',
        'path_pairs': 0,
        'lpips': '',
        'recognition': '',
        'batch_size': 64,
        'against': '',
        'out': '',
    }
    return ConfigDict(section)
