"""A trained model in one file: its weights, its config and the facts of its data, in a `.safetensors` file.

It needs no workdir, and 16 bits a weight are enough to use a model. The project's own small networks come like this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from productgen.config import UserError
from productgen.core.paths import leaf_path, named_leaves
from productgen.core.sharding import replicated
from productgen.core.state import Net, State
from productgen.data.facts import Facts
from productgen.data.labels import LabelTable
from productgen.model.config import resolve
from productgen.model.prepared import prepare
from productgen.model.trained import Trained
from productgen.published import tensors

_ABOUT = 'productgen'  # the entry of the file's metadata


def pack(trained: Trained, path: Path, dtype: str = 'float16') -> None:
    """Writes the averaged weights and statistics of a trained model.

    Args:
      trained: the model.
      path: the file, which ends in `.safetensors`.
      dtype: of the weights in the file.
    """
    facts = trained.model.facts
    about = {
        'config': trained.model.config.to_json(),
        'labels': facts.labels.to_json(),
        'columns': facts.columns,
        'step': trained.step,
    }
    nets = {name: {'ema': net.ema, 'stats': net.stats} for name, net in trained.state.nets.items()}
    arrays = {name: np.asarray(x).astype(dtype) for name, x in named_leaves(jax.device_get(nets)).items()}
    tensors.write_safetensors(path, arrays, {_ABOUT: json.dumps(about)})


def open_packed(path: Path, batch_size: int = 32, float32: bool = True) -> Trained:
    """Opens what `pack` wrote; its `workdir` is the file.

    Args:
      path: the file.
      batch_size: rows at a time.
      float32: compute in float32 whatever the config says.

    Raises:
      UserError: the file is missing, damaged or another kind of file.
    """
    arrays, metadata = tensors.read(path), tensors.metadata(path)
    if _ABOUT not in metadata:
        raise UserError(str(path), 'is not a packed model', 'give the workdir of a run')
    about = json.loads(metadata[_ABOUT])
    columns = {name: tuple(shape) for name, shape in about['columns'].items()}
    facts = Facts(LabelTable.from_json(about['labels']), columns)
    model = prepare(resolve(about['config']), facts, devices=1, float32=float32)
    template = model.abstract()[0]

    def filled(path_in_tree: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = leaf_path(path_in_tree)
        if name not in arrays or arrays[name].shape != leaf.shape:
            raise UserError(str(path), f'has no weights {name} of shape {leaf.shape}', 'pack the run again')
        return arrays[name].astype(leaf.dtype)

    wanted = {name: {'ema': net.ema, 'stats': net.stats} for name, net in template.nets.items()}
    found = jax.device_put(jax.tree_util.tree_map_with_path(filled, wanted), replicated(model.mesh))
    nets = {name: Net(params=None, opt=None, **parts) for name, parts in found.items()}
    state = State(jnp.asarray(about['step'], jnp.int32), nets, {}, {})
    return Trained(path, model, model.with_frozen(state, training=False), batch_size)
