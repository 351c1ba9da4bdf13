"""A cut of the tree is a partition of the classes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.wordnet import Tree

TREE = Tree(
    names=["animal", "dog", "beagle", "pug", "cat", "car"],
    paths=[[0, 1, 2], [0, 1, 3], [0, 4], [5]],
)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=6), st.floats(0, 1))
def test_every_class_falls_under_one_node_of_its_own_path(
    draws: list[float], threshold: float
) -> None:
    nodes, members = TREE.cut(np.array(draws), threshold)
    assert len(set(nodes.tolist())) == len(nodes)
    for path, member in zip(TREE.paths, members, strict=True):
        assert nodes[member] in path


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=6), st.floats(0, 1))
def test_classes_below_a_node_of_the_cut_are_cut_there(
    draws: list[float], threshold: float
) -> None:
    nodes, members = TREE.cut(np.array(draws), threshold)
    for path, member in zip(TREE.paths, members, strict=True):
        above = path[: path.index(nodes[member])]
        assert not set(above) & set(nodes.tolist())


def test_a_threshold_of_zero_leaves_the_classes() -> None:
    nodes, members = TREE.cut(np.full(6, 0.5), 0.0)
    assert nodes[members].tolist() == [2, 3, 4, 5]


def test_a_threshold_of_one_cuts_at_the_top() -> None:
    nodes, members = TREE.cut(np.full(6, 0.5), 1.0)
    assert nodes[members].tolist() == [0, 0, 0, 5]
