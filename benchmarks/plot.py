"""Throughput and latency against the number of clients, as an SVG for light and dark pages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from benchmarks.results import SweepPoint

_GREY = "#7a7a7a"
"""Has a contrast above 4 on white and on GitHub's dark page."""
_COLOURS = ("#3b82f6", "#d97706", "#16a34a", "#c026d3")
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xmore",
    "font.family": "sans-serif",
    "font.size": 12,
    "text.color": _GREY,
    "axes.labelcolor": _GREY,
    "axes.edgecolor": _GREY,
    "axes.titlecolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GREY,
    "grid.alpha": 0.3,
}


def draw(points: Sequence[SweepPoint], path: Path) -> None:
    """Write the SVG.

    Args:
        points: of one or more models.
        path: of the file.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for colour, model in zip(_COLOURS, dict.fromkeys(p.model for p in points), strict=False):
            own = sorted((p for p in points if p.model == model), key=lambda p: p.clients)
            clients = [p.clients for p in own]
            left.plot(clients, [p.images_per_s for p in own], "o-", color=colour, label=model)
            right.plot(clients, [p.p50_ms for p in own], "o-", color=colour, label=f"{model}, p50")
            right.plot(clients, [p.p99_ms for p in own], "^:", color=colour, label=f"{model}, p99")
        left.set(title="images a second", ylim=(0, None))
        right.set(title="latency, ms", yscale="log")
        right.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xlabel("clients")
            axes.xaxis.set_major_locator(FixedLocator(sorted({p.clients for p in points})))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.grid(visible=True)
            axes.legend(frameon=False, fontsize=9)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
