"""What config files share: argument strings, and changes that several of them make."""

from __future__ import annotations

import re
from typing import Any

from ml_collections import ConfigDict

from productgen.config import UserError, nearest
from productgen.config.sections import MAX_SIDE


def parse_arg(arg: str | None, one: bool = False, **defaults):
    """Parses the part after the colon of `--config=FILE:ARG`, strictly.

    `quick` sets a flag, `res=64` a value; several are separated by commas.

    Args:
      arg: the text; None or empty for none.
      one: the arguments exclude each other.
      **defaults: every valid name, with its default, which also gives its type; `res` is a size.

    Raises:
      UserError: an unknown name, a value of another type, or names that exclude each other.
    """
    values, names = dict(defaults), set()
    for item in filter(None, (arg or '').split(',')):
        name, given, text = item.partition('=')
        field = f'config argument {item!r}'
        if name not in defaults:
            raise UserError(field, f'there is no {name!r}{nearest(name, defaults)}')
        names.add(name)
        kind = type(defaults[name])
        if kind is bool:
            if given:
                raise UserError(field, f'{name} takes no value')
            values[name] = True
            continue
        try:
            values[name] = kind(text)
        except ValueError:
            text = ''
        if not given or text == '':
            raise UserError(field, f'expected {name}={kind.__name__}')
    if one and len(names) > 1:
        raise UserError(f'config argument {arg!r}', f'choose one of {", ".join(defaults)}')
    if 'res' in names:
        match = re.fullmatch(r'([0-9]{1,9})(?:x([0-9]{1,9}))?', str(values['res']))
        if not match or not all(1 <= int(side) <= MAX_SIDE for side in match.groups(match[1])):
            size = f'a size such as 128, or WIDTHxHEIGHT such as 96x128, at most {MAX_SIDE}'
            raise UserError(f'config argument {arg!r}', f'res is {size}')
    return ConfigDict(values)


def networks(*names: str, **fields: Any) -> dict[str, dict[str, Any]]:
    """An `optim` section with the same settings for several networks; see `productgen.core.optim.OptimConfig`."""
    return {name: dict(fields) for name in names}


def shorten(config: ConfigDict, duration: str, every: str) -> None:
    """Shortens the training to `duration`, with a sample grid and a checkpoint at intervals of `every`."""
    config.train.update(duration=duration, sample_every=every, checkpoint_every=every)


def published_translation(config: ConfigDict, res: str) -> None:
    """The published networks of a method that translates pictures, at any resolution, for one GPU."""
    config.data.update(resolution=res, workers=8)
    del config.model
    config.train = {
        'batch_size': 8,
        'duration': '400kimg',
        'log_every': '2kimg',
        'sample_every': '10kimg',
        'checkpoint_every': '50kimg',
        'grid_rows': 4,
    }
    for net in config.optim.values():
        net.learning_rate = 2e-4


def as_published(config: ConfigDict, duration: str, hold: float) -> None:
    """The published training of pix2pix, CycleGAN and CUT: single pictures, jitter, a rate that falls after `hold`."""
    config.method.update(enlarge=286 / 256, mirror=True, ema_kimg=0.0)
    config.train.update(batch_size=1, duration=duration)
    for net in config.optim.values():
        net.update(schedule='linear', hold=hold)
