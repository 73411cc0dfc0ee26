import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import ConfigError
from shoal.train.tree import Node, block, cover, finish, reduce_leaves


@st.composite
def shares(draw):
    num_leaves = draw(st.integers(1, 40))
    return num_leaves, draw(st.integers(1, num_leaves))


def brackets(first, second):
    return f"({first} {second})"


@given(shares())
def test_any_number_of_workers_makes_the_same_brackets(share):
    num_leaves, num_workers = share
    alone = reduce_leaves(Node(0, num_leaves), str, brackets)

    parts = {
        root: reduce_leaves(root, str, brackets)
        for worker in range(num_workers)
        for root in cover(num_leaves, block(num_leaves, worker, num_workers))
    }

    assert finish(num_leaves, parts, brackets) == alone


@given(st.integers(1, 40))
def test_adding_right_leaves_on_the_spot_keeps_the_brackets_and_the_order(num_leaves):
    asked = []

    def leaf(part):
        asked.append(part)
        return str(part)

    apart = reduce_leaves(Node(0, num_leaves), str, brackets)
    together = reduce_leaves(Node(0, num_leaves), leaf, brackets, lambda first, part: brackets(first, leaf(part)))

    assert together == apart
    assert asked == list(range(num_leaves))


@given(shares())
def test_blocks_hold_every_leaf_once_and_are_even(share):
    num_leaves, num_workers = share

    blocks = [block(num_leaves, worker, num_workers) for worker in range(num_workers)]

    assert [leaf for node in blocks for leaf in range(node.first, node.end)] == list(range(num_leaves))
    sizes = [node.end - node.first for node in blocks]
    assert max(sizes) - min(sizes) <= 1


@given(shares())
def test_a_block_has_few_roots(share):
    num_leaves, num_workers = share

    for worker in range(num_workers):
        roots = cover(num_leaves, block(num_leaves, worker, num_workers))

        assert len(roots) <= max(1, 2 * num_leaves.bit_length() - 2)


@given(st.integers(1, 200))
def test_memory_grows_with_the_logarithm(num_leaves):
    alive = peak = 0

    def leaf(_):
        nonlocal alive, peak
        alive += 1
        peak = max(peak, alive)

    def combine(*_):
        nonlocal alive
        alive -= 1

    reduce_leaves(Node(0, num_leaves), leaf, combine)

    assert peak <= num_leaves.bit_length() + 1


def test_more_workers_than_leaves_are_refused():
    with pytest.raises(ConfigError, match="4 virtual workers among 5"):
        block(4, 0, 5)
