"""Versions, git revision and hardware of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

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
_ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, Any]:
    """Versions, git revision and hardware, as JSON values: what is needed to repeat a run elsewhere."""
    return {
        'time': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        'git': _git('rev-parse', 'HEAD') or 'unknown',
        'git_dirty': bool(_git('status', '--porcelain')),
        'python': platform.python_version(),
        'platform': platform.platform(),
        'cpus': os.cpu_count(),
        'devices': [f'{d.platform}: {d.device_kind}' for d in jax.devices()],
        'packages': {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    """Of an installed package; a record must not keep a run from starting."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed'


def _git(*words: str) -> str:
    """The output of a git command in the project's folder; empty where there is no repository."""
    try:
        found = subprocess.run(['git', '-C', _ROOT, *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return found.stdout.strip()
