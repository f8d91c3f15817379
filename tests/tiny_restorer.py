"""Restoring models with small networks, as trained as their initial weights and some noise are."""

import pathlib

import jax
from tiny import full

from productgen.data.facts import Facts
from productgen.model.config import resolve
from productgen.model.prepared import prepare
from productgen.model.trained import Trained

MODELS = {
    'compact': {'model.features': 4, 'model.layers': 2},
    'nafnet': {'model.width': 4, 'model.encoder': '1', 'model.middle': 1, 'model.decoder': '1'},
}


def restorer(task, noise=0.2):
    """A `Trained` of configs/restore.py with noise on all weights."""
    from configs import restore

    config = full(restore.get_config(f'task={task}'), data__resolution='32')
    config = full(config, **MODELS[config['model']['name']])
    model = prepare(resolve(config), Facts.assumed(False, {'image': (32, 32, 3)}), devices=1)
    state = model.initial_state()

    def moved(path, leaf):
        return leaf + noise * jax.random.normal(jax.random.key(len(str(path))), leaf.shape)

    nets = {name: net.replace(ema=jax.tree_util.tree_map_with_path(moved, net.ema)) for name, net in state.nets.items()}
    return Trained(pathlib.Path('run'), model, state.replace(nets=nets))
