"""Versions, git revision and hardware of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path

import jax

PACKAGES = (
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'ml-collections',
    'tensorflow-datasets',
    'numpy',
    'pillow',
)


def environment() -> dict:
    """Versions, git revision and hardware: what is needed to run a thing again elsewhere."""
    root = Path(__file__).resolve().parent.parent.parent

    def git(*words: str) -> str:
        try:
            return subprocess.run(
                ['git', '-C', root, *words], capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ''

    return {
        'time': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        'git': git('rev-parse', 'HEAD') or 'unknown',
        'git_dirty': bool(git('status', '--porcelain')),
        'python': platform.python_version(),
        'platform': platform.platform(),
        'cpus': os.cpu_count(),
        'devices': [f'{d.platform}: {d.device_kind}' for d in jax.devices()],
        'packages': {name: importlib.metadata.version(name) for name in PACKAGES},
    }
