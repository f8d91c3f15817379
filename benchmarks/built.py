"""Builds the method of a config without its data set, with random images to train on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from productgen.config import to_dict  # noqa: E402
from productgen.core.sharding import put_batch  # noqa: E402
from productgen.data import parse_resolution  # noqa: E402
from productgen.data.facts import Facts  # noqa: E402
from productgen.data.labels import LabelTable  # noqa: E402
from productgen.model.config import complete_config, resolve  # noqa: E402
from productgen.model.prepared import Prepared, prepare  # noqa: E402


def prepared(config: Mapping[str, Any], changes: Mapping[str, Any] | None = None, values: int = 0) -> Prepared:
    """Builds the method of a config over all devices, for a training set of 10,000 images.

    Args:
      config: a ConfigDict or nested dicts.
      changes: values to set, by field, such as {'train.batch_size': 8}.
      values: number of values of the label; 0 for no labels.

    Raises:
      UserError: something in the config cannot be used, or a field does not exist.
    """
    config = changed(complete_config(to_dict(config)), changes or {})
    attributes = {'label': tuple(f'value {i}' for i in range(values))} if values else {}
    table = LabelTable(attributes, np.zeros((1, len(attributes)), np.int32), np.asarray([10_000]))
    size = parse_resolution(config['data']['resolution'])
    return prepare(resolve(config), Facts(table, {'image': (*size, 3)}))


def changed(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Sets fields of nested dicts in place, and returns them."""
    for field, value in changes.items():
        *path, name = field.split('.')
        section = config
        for part in path:
            section = section.get(part, {})
        if name not in section:
            raise SystemExit(f'there is no field {field}')
        section[name] = value
    return config


def random_batch(model: Prepared) -> dict[str, jax.Array]:
    """A batch of random images and labels on the devices, as `Method.inputs` names them."""
    draw = np.random.default_rng(0)
    most = lambda name: np.asarray(model.problem.labels) if name == 'label' else 256
    rows = {name: draw.integers(0, most(name), x.shape, x.dtype) for name, x in model.method.inputs().items()}
    return put_batch(model.mesh, rows)
