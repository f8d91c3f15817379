"""Imports run downwards only, and no file outgrows its readers."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted([*ROOT.glob('productgen/**/*.py'), *ROOT.glob('configs/*.py'), ROOT / 'launch.py'])

# What a package may import of the project, besides itself. `methods` stands for the whole of productgen.methods, ...
ALLOWED = {
    'state': set(),
    'config': set(),
    'duration': {'config'},
    'ranges': {'config'},
    'labels': {'config', 'data'},
    'schedule': {'config'},
    'optim': {'config', 'schedule'},
    'pictures': set(),
    'watch': {'state'},
    'log': {'pictures'},
    'workdir': {'checkpoint', 'config', 'labels', 'log'},
    'metrics': {'losses', 'nets'},
    'checkpoint': {'sharding', 'state'},
    'sharding': {'state'},
    'communication': set(),
    'data': {'config'},
    'augment': {'config', 'schedule'},
    'losses': set(),
    'nets': {'state'},
    'weights': {'config', 'data'},
    'methods': {'nets', 'losses', 'augment', 'state', 'optim', 'schedule', 'config'},
    'sections': {'config', 'duration', 'metrics', 'ranges'},
    'setup': {'config', 'data', 'duration', 'labels', 'methods', 'optim', 'sections', 'sharding', 'state'},
    'sampler': {'methods', 'setup', 'sharding', 'state'},
    'preview': {'data', 'pictures', 'setup'},
    'retrieval': {'data', 'metrics', 'pictures', 'preview', 'sampler', 'setup', 'state'},
    'ensemble': {'checkpoint', 'config', 'methods', 'sampler', 'setup', 'state', 'workdir'},
    'sample': {
        'config', 'ensemble', 'methods', 'pictures', 'ranges', 'sampler', 'sections', 'setup', 'state', 'workdir',
    },
    'features': {
        'config', 'ensemble', 'methods', 'nets', 'sampler', 'setup', 'sharding', 'state', 'weights', 'workdir',
    },
    'evaluation': {
        'config', 'data', 'ensemble', 'features', 'labels', 'log', 'methods', 'metrics', 'pictures', 'sampler',
        'sections', 'setup', 'state', 'train', 'workdir',
    },
    'finetune': {'checkpoint', 'config', 'labels', 'setup', 'sharding', 'state', 'workdir'},
    'validate': {
        'checkpoint', 'config', 'data', 'features', 'methods', 'metrics', 'retrieval', 'sampler', 'setup', 'sharding',
        'state', 'watch',
    },
    'report': {'finetune', 'methods', 'setup', 'sharding', 'state', 'validate'},
    'record': {
        'checkpoint', 'data', 'log', 'methods', 'retrieval', 'pictures', 'preview', 'sampler', 'setup', 'sharding',
        'state', 'validate', 'watch',
    },
    'train': {
        'checkpoint', 'config', 'data', 'finetune', 'log', 'methods', 'record', 'setup', 'sharding', 'state',
        'validate', 'watch', 'workdir',
    },
}  # fmt: skip


def imported(path):
    """Parts of productgen that a file imports, and other top-level names."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: relative import'
            names = [node.module]
            if node.module == 'productgen':
                names = [f'productgen.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split('.')
            if parts[0] == 'productgen' and len(parts) > 1:
                ours.add(parts[1])
            else:
                others.add(parts[0])
    return ours, others


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path):
    relative = path.relative_to(ROOT)
    ours, others = imported(path)
    if relative.parts[0] == 'configs':
        assert not ours
        assert others <= {'__future__', 'ml_collections', 'configs', 'difflib', 'json', 'pathlib', 're'}
    elif relative.parts[0] == 'productgen' and len(relative.parts) > 1:
        part = relative.parts[1].removesuffix('.py')
        if part != '__init__':
            assert ours - {part} <= ALLOWED[part]
            assert not others & {'tensorflow', 'torch', 'configs', 'launch'}


@pytest.mark.parametrize('path', [*FILES, *sorted(ROOT.glob('tests/**/*.py'))], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_has_more_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_losses_see_only_jax():
    for path in ROOT.glob('productgen/losses/*.py'):
        assert imported(path)[1] <= {'__future__', 'jax', 'optax', 'collections'}, path
