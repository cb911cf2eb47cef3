"""The tree of a ChatGPT conversation, in the order in which it is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pattern_db.models import Json

from .reading import Source


class Place(msgspec.Struct, frozen=True):
    """A node of the tree: its key and its parent's, its message, if it is on the shown branch."""

    key: str
    parent: str | None
    message: Json | None
    active: bool
    name: str


def nodes_in_order(source: Source, tree: Json, current: Any, place: str) -> list[Place]:
    """Every node once: the branch from the root to ``current`` first, then what forks off it.

    Parents come before their children. Without a current node the branch of the last leaf counts as
    shown. Nodes that hang on nothing, even on each other in a ring, come last.
    """
    names = {key: f"{place}, node {number}" for number, key in enumerate(tree, 1)}
    nodes = {key: source.expect(dict, node, names[key], "the node") for key, node in tree.items()}
    parents = {key: _parent(nodes, node) for key, node in nodes.items()}
    known = isinstance(current, str) and current in nodes
    active = _branch(parents, current if known else _last_leaf(parents))
    ordered = dict.fromkeys([*active, *_off(active, parents), *nodes])
    return [
        Place(
            key, parents[key], _message(source, nodes[key], names[key]), key in active, names[key]
        )
        for key in ordered
    ]


def _parent(nodes: Json, node: Json) -> str | None:
    parent = node.get("parent")
    return parent if isinstance(parent, str) and parent in nodes else None


def _message(source: Source, node: Json, place: str) -> Json | None:
    message = node.get("message")
    return None if message is None else source.expect(dict, message, place, "the message")


def _last_leaf(parents: dict[str, str | None]) -> str | None:
    inner = set(parents.values())
    return next((key for key in reversed(parents) if key not in inner), None)


def _branch(parents: dict[str, str | None], leaf: str | None) -> dict[str, None]:
    """The nodes from the root to a leaf."""
    upwards: dict[str, None] = {}
    while leaf is not None and leaf not in upwards:
        upwards[leaf] = None
        leaf = parents[leaf]
    return dict.fromkeys(reversed(upwards))


def _off(active: Iterable[str], parents: dict[str, str | None]) -> Iterator[str]:
    """What forks off a branch, and further trees, depth first."""
    children: dict[str | None, list[str]] = {}
    for key, parent in parents.items():
        children.setdefault(parent, []).append(key)
    shown = set(active)
    waiting: list[str] = [
        key for parent in (*active, None) for key in children.get(parent, ()) if key not in shown
    ][::-1]
    while waiting:
        key = waiting.pop()
        yield key
        waiting += reversed(children.get(key, []))
