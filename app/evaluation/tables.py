"""Results as tables: what the terminal shows, and what the report shows first."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from app.evaluation.protocol import Method
from app.evaluation.results import Configuration, Estimate, Results, Score, SetResult

METHOD_NAMES = {
    Method.IMAGE: "plain CLIP",
    Method.TEXT: "captions only",
    Method.MEAN: "fixed halves",
    Method.PRODUCT: "product",
    Method.REQUEST: "X-MoRe, request",
    Method.BATCH: "X-MoRe, batch",
    Method.STREAM: "X-MoRe, stream",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One configuration on all sets: top-1 accuracies, their mean, and plain CLIP beside it."""

    configuration: Configuration
    scores: list[Score]
    mean: Estimate
    difference: Estimate | None
    least_difference: float | None


def lines(results: Results) -> list[Line]:
    """Every configuration, in the order in which it was measured."""
    by_set = [{s.configuration: s for s in one.scores} for one in results.sets]
    return [
        Line(
            mean.configuration,
            [scores[mean.configuration] for scores in by_set],
            mean.top1,
            mean.difference,
            mean.least_difference,
        )
        for mean in results.means
    ]


def terminal_tables(results: Results) -> list[Table]:
    """One table for each prompt ensemble: accuracies in percent, differences in points."""
    return [_table(results.sets, name, lines(results)) for name in results.templates]


def _table(sets: Sequence[SetResult], templates: str, all_lines: Sequence[Line]) -> Table:
    table = Table(title=f"top-1 in %, templates: {templates}", title_justify="left", box=None)
    for heading in ("method", "captions from", "K", "re-rank", "crops"):
        table.add_column(heading, no_wrap=True)
    for one in sets:
        table.add_column(Text(one.name), justify="right", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    table.add_column("beside CLIP (95 %)", justify="right", no_wrap=True)
    for line in all_lines:
        c = line.configuration
        if c.templates == templates:
            table.add_row(
                METHOD_NAMES[c.method],
                Text(c.index or "-"),
                str(c.k) if c.k else "-",
                "-" if c.index is None else ("on" if c.rerank else "off"),
                str(c.crops),
                *(percent(score.top1.value) for score in line.scores),
                percent(line.mean.value),
                "" if line.difference is None else points(line.difference),
                style="bold" if c.method is Method.IMAGE else None,
            )
    return table


def percent(share: float) -> str:
    """`97.4`."""
    return f"{100 * share:.1f}"


def points(difference: Estimate) -> str:
    """`-0.5 (-1.2 to +0.3)`, in percentage points."""
    value, low, high = (
        f"{100 * x:+.1f}" for x in (difference.value, difference.low, difference.high)
    )
    return f"{value} ({low} to {high})".replace("-", "\N{MINUS SIGN}")
