"""The fixed binary tree in which V contributions become one, whoever computes which part of it.

Floating-point addition is not associative, so a sum is reproducible only if its brackets are. The brackets here depend
on the number of leaves alone: a worker adds up the complete subtrees inside its own block of leaves, and the few roots
of those subtrees are enough for anybody to finish the same tree.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from shoal.base import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Node:
    """A subtree: the leaves from `first` up to, not including, `end`."""

    first: int
    end: int

    @property
    def children(self) -> "tuple[Node, Node]":
        """Left and right half; only a node of two or more leaves has them."""
        middle = (self.first + self.end) // 2
        return Node(self.first, middle), Node(middle, self.end)


def block(num_leaves: int, worker: int, num_workers: int) -> Node:
    """The leaves of one worker: consecutive, and as even as they can be.

    Raises:
        ConfigError: there are more workers than leaves, so that some would have nothing to do.
    """
    if not 1 <= num_workers <= num_leaves:
        raise ConfigError(
            f"cannot share {num_leaves} virtual workers among {num_workers} workers: each needs at least one",
            next_step=f"raise num_virtual to {max(num_workers, 1)} or more, or start fewer workers",
        )
    return Node(worker * num_leaves // num_workers, (worker + 1) * num_leaves // num_workers)


def cover(num_leaves: int, leaves: Node) -> tuple[Node, ...]:
    """The fewest subtrees that hold exactly these leaves, from left to right.

    >>> cover(8, Node(2, 5))
    (Node(first=2, end=4), Node(first=4, end=5))
    """
    return _cover(Node(0, num_leaves), leaves)


def _cover(node: Node, leaves: Node) -> tuple[Node, ...]:
    if leaves.first <= node.first and node.end <= leaves.end:
        return (node,)
    if node.end <= leaves.first or leaves.end <= node.first:
        return ()
    left, right = node.children
    return _cover(left, leaves) + _cover(right, leaves)


def reduce_leaves(
    node: Node,
    leaf: Callable[[int], T],
    combine: Callable[[T, T], T],
    onto: Callable[[T, int], T] | None = None,
) -> T:
    """Combine the leaves under a node, computing each when it is needed.

    Leaves are asked for from left to right, and at most one value per level of the tree is alive at a time: memory
    grows with the logarithm of the number of leaves.

    Args:
        node: the subtree.
        leaf: the value of a leaf.
        combine: from two neighbours, left and right, to their sum.
        onto: from a value and the number of the leaf to its right to their sum: `combine(value, leaf(number))` in one,
            for whom that is less work.
    """
    if node.end - node.first == 1:
        return leaf(node.first)
    left, right = node.children
    first = reduce_leaves(left, leaf, combine, onto)
    if onto is not None and right.end - right.first == 1:
        return onto(first, right.first)
    return combine(first, reduce_leaves(right, leaf, combine, onto))


def finish(num_leaves: int, parts: Mapping[Node, T], combine: Callable[[T, T], T]) -> T:
    """Combine the values of subtrees that together cover all leaves, in the tree's own order."""
    return _finish(Node(0, num_leaves), parts, combine)


def _finish(node: Node, parts: Mapping[Node, T], combine: Callable[[T, T], T]) -> T:
    if node in parts:
        return parts[node]
    left, right = node.children
    first = _finish(left, parts, combine)
    return combine(first, _finish(right, parts, combine))
