"""What the cores could do, less what the load generator takes."""

import pytest

from benchmarks.bound import Cost, best_batch, bound

COST = Cost(decode_core_s=0.01, encode_core_s=0.03)


def test_all_cores_decode_and_encode() -> None:
    assert bound(2, COST) == pytest.approx(50)


def test_what_the_load_generator_takes_is_not_the_servers() -> None:
    assert bound(2, COST, client_cpu_s=5, seconds=10) == pytest.approx(37.5)


def test_the_best_batch_costs_least_for_one_image() -> None:
    assert best_batch({1: 0.03, 8: 0.16, 32: 0.8}) == 8
