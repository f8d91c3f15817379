"""Imports run downwards only, by folder; files stay short."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted([*ROOT.glob('productgen/**/*.py'), *ROOT.glob('configs/*.py'), ROOT / 'launch.py'])
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

# From the bottom up: a folder may import those before it (docs/architecture.md).
LAYERS = (
    'config',
    'core',
    'losses',
    'nets',
    'augment',
    'degrade',
    'data',
    'metrics',
    'published',
    'methods',
    'model',
    'train',
    'evaluation',
    'edit',
    'tasks',
)


def imported(path):
    """Modules that a file imports: those of productgen by their path, and the top-level names of others."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: relative import'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            top, *rest = name.split('.')
            if top == 'productgen' and rest:
                ours.add(tuple(rest))
            else:
                others.add(top)
    return ours, others


def test_every_folder_is_a_layer():
    folders = {path.name for path in (ROOT / 'productgen').iterdir() if path.is_dir() and path.name != '__pycache__'}
    assert folders == set(LAYERS)
    assert [path.name for path in (ROOT / 'productgen').glob('*.py')] == ['__init__.py']


@pytest.mark.parametrize('path', FILES, ids=NAMES)
def test_imports_run_downwards(path):
    relative = path.relative_to(ROOT)
    ours, others = imported(path)
    if relative.parts[0] == 'configs':
        assert {name[0] for name in ours} <= {'config'}
        assert others - sys.stdlib_module_names <= {'ml_collections', 'configs'}
    elif relative.parts[0] == 'productgen' and len(relative.parts) > 2:
        layer = relative.parts[1]
        above = {'.'.join(name) for name in ours if LAYERS.index(name[0]) > LAYERS.index(layer)}
        assert not above
        assert not others & {'tensorflow', 'torch', 'configs', 'launch', 'benchmarks', 'tests'}


def test_no_circles():
    """Files import each other in one direction only, also within a folder."""
    modules = {
        path.relative_to(ROOT / 'productgen').with_suffix('').parts: path
        for path in FILES[: len(FILES)]
        if 'productgen' in path.parts
    }
    modules = {name[:-1] if name[-1] == '__init__' else name: path for name, path in modules.items()}
    arrows = {
        name: {m for m in (_module(i, modules) for i in imported(path)[0]) if m != name}
        for name, path in modules.items()
    }
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, ' -> '.join('.'.join(n) for n in [*open_, name])
        if name in done:
            return
        open_.append(name)
        for other in arrows[name]:
            # A package's __init__ collects its modules; these may import one another past it.
            if name[:-1] != other and other[:-1] != name:
                visit(other)
        open_.pop()
        done.add(name)

    for name in modules:
        visit(name)


def _module(name, modules):
    """The module that an imported name is, or is in."""
    while name not in modules:
        name = name[:-1]
    return name


@pytest.mark.parametrize('path', [*FILES, *sorted(ROOT.glob('tests/**/*.py'))], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_has_more_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_losses_see_only_jax():
    for path in ROOT.glob('productgen/losses/*.py'):
        assert imported(path)[1] - sys.stdlib_module_names <= {'jax', 'optax'}, path
        assert all(name[0] == 'losses' for name in imported(path)[0]), path
