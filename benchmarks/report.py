"""Tables and plot of a run, from the JSON that it left.

python -m benchmarks.report results.json                     # Markdown
python -m benchmarks.report results.json --plot clients.svg  # and the plot
"""

import argparse
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from benchmarks.machine import Machine
from benchmarks.results import FIGURES, Measured, Results

_NOT_MEASURED = "not measured"
_DEFAULT_MODEL_ONLY = ("memory",)
"""Figures whose target is for default settings; other models weigh what they weigh."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    widths = [max(map(len, column)) for column in zip_longest(header, *rows, fillvalue="")]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def markdown(results: Results) -> str:
    """Everything but the plot."""
    parts = [
        _figures(results),
        "Median over the rounds, and the quartiles.",
        "### What stands behind them",
        _details(results),
    ]
    if results.sweep:
        parts += ["### Against the number of clients", _sweep(results)]
    faults = [m for m in results.measured if m.faults]
    if faults:
        parts += ["### Answers that were wrong or none", _faults(faults)]
    if results.left_out:
        parts += ["### Not measured", "\n".join(f"- {reason}" for reason in results.left_out)]
    parts += ["### Measured on", _machine(results)]
    return "\n\n".join(parts) + "\n"


def _figures(results: Results) -> str:
    models = list(results.models)
    found = {(m.figure, m.model): m for m in results.measured}
    rows = [
        [FIGURES[name].words, FIGURES[name].target_words]
        + [_cell(found.get((name, model)), model) for model in models]
        for name in FIGURES
        if any((name, model) in found for model in models)
    ]
    return table(["figure", "target", *models], rows)


def _cell(measured: Measured | None, model: str) -> str:
    if measured is None:
        return _NOT_MEASURED
    figure = FIGURES[measured.figure]
    spread = ""
    if len(measured.rounds) > 1:
        spread = f" ({number(measured.low)} to {number(measured.high)})"
    value = f"{number(measured.median)}{figure.unit}{spread}"
    if measured.figure in _DEFAULT_MODEL_ONLY and model != "mini":
        return value
    return f"{value} {'met' if figure.met(measured.median) else '**missed**'}"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _details(results: Results) -> str:
    rows = [
        [FIGURES[m.figure].words, m.model, name, number(value)]
        for m in results.measured
        for name, value in m.details.items()
    ]
    return table(["figure", "model", "what", "value"], rows)


def _sweep(results: Results) -> str:
    rows = [
        [p.model, str(p.clients), number(p.images_per_s), number(p.p50_ms), number(p.p99_ms)]
        for p in results.sweep
    ]
    return table(["model", "clients", "images/s", "p50 ms", "p99 ms"], rows)


def _faults(measured: Sequence[Measured]) -> str:
    rows = [
        [FIGURES[m.figure].words, m.model, kind, str(count)]
        for m in measured
        for kind, count in m.faults.items()
    ]
    return table(["figure", "model", "fault", "how many"], rows)


def _machine(results: Results) -> str:
    machine: Machine = results.machine
    quota = "none" if machine.quota is None else f"{machine.quota:g} cores"
    rows = [
        ["run", f"{results.started}, {results.mode}, commit {machine.commit}"],
        ["CPU", machine.cpu],
        ["flags", " ".join(machine.flags)],
        ["cores", f"{machine.cores}, cgroup quota: {quota}"],
        ["memory", f"{machine.memory_gb:.1f} GB"],
        ["system", f"{machine.system}, Python {machine.python}"],
        ["versions", _pairs(machine.packages)],
        ["environment", _pairs(machine.environment) or "nothing that matters"],
        *([model, _pairs(chosen)] for model, chosen in results.models.items()),
    ]
    return table(["what", "which"], rows)


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def main() -> None:
    """Print the tables, draw the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path, help="what `python -m benchmarks --json` wrote")
    parser.add_argument("--plot", type=Path, help="SVG to draw")
    given = parser.parse_args()
    results = Results.model_validate_json(given.results.read_text())
    print(markdown(results), end="")
    if given.plot:
        from benchmarks.plot import draw

        draw(results.sweep, given.plot)


if __name__ == "__main__":
    main()
