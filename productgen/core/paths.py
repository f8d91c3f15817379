"""Names of the arrays of a tree, `nets/generator/params/conv0/kernel`: in messages, in patterns and on disk."""

from __future__ import annotations

import ast
import re
from typing import Any

import jax

# One component in the text of `keystr`: an attribute, a dict key, a place in a sequence or in any other node.
_KEYSTR = re.compile(r"""\.(\w+)|\[('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+)\]|\[<flat index (\d+)>\]""")


def leaf_path(path: Any) -> str:
    """The key path of a leaf as text: attributes, dict keys and indices, joined by `/`.

    Within a component `~` is written as `~0` and `/` as `~1`, as in a JSON pointer (RFC 6901).

    Args:
      path: as `jax.tree_util.tree_leaves_with_path` gives it.
    """
    return '/'.join(_escaped(jax.tree_util.keystr((key,), simple=True)) for key in path)


def split_path(name: str) -> list[str]:
    """The components of a `leaf_path`, without escapes."""
    return [part.replace('~1', '/').replace('~0', '~') for part in name.split('/')]


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their `leaf_path`."""
    return {leaf_path(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def from_keystr(text: str) -> str:
    """The `leaf_path` of a leaf from the text of `jax.tree_util.keystr`: `.nets['a'].opt[0]` -> `nets/a/opt/0`.

    Raises:
      ValueError: the text has another form.
    """
    parts, end = [], 0
    while end < len(text):
        match = _KEYSTR.match(text, end)
        if not match:
            raise ValueError(f'{text!r} is not the path of an array')
        attribute, key, index = match.groups()
        parts.append(_escaped(attribute or index or str(ast.literal_eval(key))))
        end = match.end()
    return '/'.join(parts)


def _escaped(part: str) -> str:
    return part.replace('~', '~0').replace('/', '~1')
