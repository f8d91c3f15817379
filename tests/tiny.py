"""A config small enough to train in seconds, and the command lines that do."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Environment of a program on eight emulated devices.
EIGHT = {
    'PYTHONPATH': str(ROOT),
    'XLA_FLAGS': os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8',
}

# Overrides that make any run of configs/stylegan.py tiny: 16 x 16 pixels, nets of some thousand parameters.
TINY = {
    'data.resolution': '16',
    'data.catalog_items': 128,
    'model.z_dim': 8,
    'model.w_dim': 16,
    'model.mapping_layers': 1,
    'model.channel_base': 64,
    'model.channel_max': 8,
    'model.stddev_group': 2,
    'train.batch_size': 8,
    'train.duration': '6steps',
    'train.log_every': '2steps',
    'train.sample_every': '4steps',
    'train.checkpoint_every': '3steps',
    'train.grid_columns': 2,
    'train.grid_rows': 4,
    'eval.features': '',
}

# The same for configs/gan.py, 8 x 8 pixels; its programs are ready in a fraction of the time.
TINY_GAN = {
    **{field: value for field, value in TINY.items() if not field.startswith('model.')},
    'data.resolution': '8',
    'model.z_dim': 8,
    'model.generator_width': 16,
    'model.discriminator_width': 16,
}


def full(config, **overrides):
    """A config file's ConfigDict as plain dicts with all defaults, and overrides (`train__batch_size`)."""
    from productgen.config import to_dict
    from productgen.model.config import complete_config

    config = complete_config(to_dict(config))
    for field, value in overrides.items():
        *path, name = field.replace('__', '.').split('.')
        section = config
        for part in path:
            section = section[part]
        assert name in section, field
        section[name] = value
    return config


def tiny_config(**overrides):
    """configs/stylegan.py as a plain dict with `TINY` and `overrides` ('train__batch_size' for train.batch_size)."""
    from configs import stylegan

    return full(stylegan.get_config(), **TINY | {name.replace('__', '.'): x for name, x in overrides.items()})


def tiny_gan_config(**overrides):
    """configs/gan.py as `tiny_config` gives configs/stylegan.py, with `TINY_GAN`."""
    from configs import gan

    return full(gan.get_config(), **TINY_GAN | {name.replace('__', '.'): x for name, x in overrides.items()})


def classifier_config(**fields):
    """configs/classifier.py for pictures of 16 x 16, with some fields of `train`."""
    from configs import classifier

    config = full(classifier.get_config('quick'))
    config['data'] |= {'resolution': '16', 'catalog_items': 400, 'labels': 'label,colour', 'validation': 0.2}
    config['model'] |= {'width': 8, 'blocks': '1,1'}
    config['train'] |= {'batch_size': 16, 'duration': '160steps', 'validate_every': '160steps', 'validate_items': 40}
    config['method']['augment'] |= {'name': 'none', 'transforms': ''}
    config['optim']['classifier']['learning_rate'] = 5e-3
    config['train'] |= fields
    return config


# The product's entry points for configs as plain dicts.


def train(config, workdir, accept_change=False):
    """`productgen.train.loop.train`."""
    from productgen.model.config import resolve
    from productgen.train import loop

    return loop.train(resolve(config), workdir, accept_change)


def open_run(config, devices=None, training=True):
    """`productgen.train.run.open_run`."""
    from productgen.model.config import resolve
    from productgen.train import run

    return run.open_run(resolve(config), devices, training)


def sample(config, workdir):
    """`productgen.tasks.sample.sample` with the `sample` section of a config."""
    from productgen.model.config import resolve
    from productgen.tasks import sample as task

    return task.sample(resolve(config).sample, workdir)


def evaluate(config, workdir, accept_change=False):
    """`productgen.evaluation.evaluate`."""
    from productgen import evaluation
    from productgen.model.config import resolve

    return evaluation.evaluate(resolve(config), workdir, accept_change)


def describe(config):
    """`productgen.train.describe.describe`."""
    from productgen.model.config import resolve
    from productgen.train import describe as module

    return module.describe(resolve(config))


def launch_command(workdir, *words, config='configs/stylegan.py', tiny=TINY, **overrides):
    """The command line that trains a config file with the overrides `tiny`, then `overrides`, in `workdir`."""
    fields = {**tiny, **{k.replace('__', '.'): v for k, v in overrides.items()}}
    flags = [f'--config.{name}={value}' for name, value in fields.items()]
    return [sys.executable, 'launch.py', f'--config={config}', f'--workdir={workdir}', *flags, *words]


def run_launch(command, env=None, timeout=300):
    """Runs a command from the project's root and returns the finished process with its output as text."""
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=timeout
    )


def timeless(workdir):
    """Points of a run's log without what depends on the clock."""
    timed = ('second', 'memory', 'wait')
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not any(word in k for word in timed)} for line in lines]
