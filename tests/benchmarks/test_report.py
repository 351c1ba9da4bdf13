"""Tables and plot, from the JSON of a run."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.machine import Machine
from benchmarks.plot import draw
from benchmarks.report import markdown, number, table
from benchmarks.results import FIGURES, Measured, Results, SweepPoint

MACHINE = Machine(
    cpu="a CPU",
    flags=["avx2"],
    cores=2,
    quota=1.5,
    memory_gb=24.0,
    system="Linux 6",
    python="3.11.7",
    packages={"torch": "2.14.1"},
    environment={},
    commit="0123456789ab",
)
SWEEP = [
    SweepPoint(model=model, clients=clients, images_per_s=9.0, p50_ms=100.0, p99_ms=200.0)
    for model in ("mini", "ViT-B-32")
    for clients in (1, 2, 4)
]
RESULTS = Results(
    machine=MACHINE,
    models={"mini": {"precision": "float32"}, "ViT-B-32": {"precision": "float32"}},
    mode="quick",
    started="2026-01-01T00:00+00:00",
    measured=[
        Measured.of("one_request", "mini", [1.1, 1.3, 1.2], {"request p50 ms": 20.0}),
        Measured.of("one_request", "ViT-B-32", [1.21], faults={"status 429": 2}),
        Measured.of("memory", "mini", [901.0]),
        Measured.of("memory", "ViT-B-32", [1500.0]),
    ],
    sweep=SWEEP,
    left_out=["infinity-emb with mini: no such architecture."],
)


def row(text: str, start: str) -> list[str]:
    """The cells of the first row that begins with `start`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_value_is_held_against_its_target() -> None:
    cells = row(markdown(RESULTS), "one request at a time")
    assert cells[1:] == ["≤ 1.2", "1.20 (1.15 to 1.25) met", "1.21 **missed**"]


def test_memory_has_a_target_for_the_default_model_only() -> None:
    assert row(markdown(RESULTS), "resident")[2:] == ["901 MB **missed**", "1,500 MB"]


def test_faults_what_is_left_out_and_the_machine_are_told() -> None:
    text = markdown(RESULTS)
    assert "status 429" in text
    assert "no such architecture" in text
    assert row(text, "cores")[1] == "2, cgroup quota: 1.5 cores"


def test_results_come_back_from_their_json() -> None:
    assert Results.model_validate_json(RESULTS.model_dump_json()) == RESULTS


def test_a_server_without_a_right_answer_misses_its_target() -> None:
    silent = Measured.of("tail", "mini", [float("nan")])
    results = RESULTS.model_copy(update={"measured": [silent]})
    again = Results.model_validate_json(results.model_dump_json())
    assert row(markdown(again), "half of the saturation")[2] == "nan **missed**"


def test_columns_line_up() -> None:
    lines = table(["a", "long"], [["longer", "b"]]).splitlines()
    assert lines == ["| a      | long |", "| ------ | ---- |", "| longer | b    |"]


@pytest.mark.parametrize(
    ("value", "words"), [(1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")]
)
def test_numbers_have_three_digits(value: float, words: str) -> None:
    assert number(value) == words


def test_a_figure_may_be_wanted_high_or_low() -> None:
    assert FIGURES["bound"].met(0.8)
    assert not FIGURES["bound"].met(0.79)
    assert FIGURES["tail"].met(3)
    assert not FIGURES["tail"].met(3.01)


def test_the_plot_is_the_same_every_time_and_names_the_models(tmp_path: Path) -> None:
    draw(SWEEP, tmp_path / "one.svg")
    draw(SWEEP, tmp_path / "two.svg")
    svg = (tmp_path / "one.svg").read_text()
    assert svg == (tmp_path / "two.svg").read_text()
    assert {"mini", "ViT-B-32"} <= {text.strip() for text in ET.fromstring(svg).itertext()}  # noqa: S314 - our own
