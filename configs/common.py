"""What config files share: argument strings, and sections with their defaults."""

from __future__ import annotations

import difflib

from ml_collections import ConfigDict


def parse_arg(arg: str | None, **defaults):
    """Parses the part after the colon of `--config=FILE:ARG`, strictly.

    `quick` sets a flag, `res=64` a value; several are separated by commas. Every name must be among `defaults`, whose
    values also give the types.

    Raises:
      ValueError: an unknown name or a value of another type.
    """
    values = dict(defaults)
    for item in filter(None, (arg or '').split(',')):
        name, given, text = item.partition('=')
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, 1, 0.5)
            hint = f'did you mean {near[0]!r}? ' if near else ''
            raise ValueError(f'config argument {item!r}: there is no {name!r}; {hint}(known: {", ".join(defaults)})')
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
        'catalog_items': 20_000,
        'cache_gb': 4.0,
        'workers': 2,
    }
    return ConfigDict(section)


def adam(learning_rate: float, b1: float = 0.9, b2: float = 0.999) -> ConfigDict:
    """An optimiser's section; see `productgen.optim.OptimConfig`."""
    section = {
        'name': 'adam',
        'learning_rate': learning_rate,
        'b1': b1,
        'b2': b2,
        'eps': 1e-8,
        'weight_decay': 0.0,
        'clip': 0.0,
        'schedule': 'constant',
        'warmup': 0.0,
    }
    return ConfigDict(section)


def sample_section() -> ConfigDict:
    """The `sample` section; see `productgen.setup.SampleConfig`."""
    section = {
        'seeds': '0-63',
        'labels': '',
        'truncation': 0.7,
        'output': 'grid',
        'columns': 8,
        'batch_size': 32,
        'mix_layers': '0-3',
        'frames': 24,
        'fps': 24,
        'format': 'gif',
        'out': '',
        'step': 0,
    }
    return ConfigDict(section)
