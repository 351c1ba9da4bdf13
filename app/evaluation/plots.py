"""The report's plots, as SVG that takes its colours from the page and so follows its theme."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from app.evaluation.results import Detail, Estimate
from app.evaluation.statistics import CALIBRATION_BINS, COVERAGES, HISTOGRAM_BINS

_INK, _GRID, _SERIES = (
    "#010101",
    "#020202",
    ("#030303", "#040404", "#050505", "#060606", "#070707", "#080808"),
)
"""Colours that stand for the page's; `_themed` puts CSS variables in their place."""

_VARIABLES = {
    _INK: "var(--ink)",
    _GRID: "var(--line)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, 1)},
}

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xmore",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}

_SIZE = (5.2, 3.3)
_MARKERS = "osD^vP"
_BAND = 0.15


def differences(by_method: Mapping[str, Sequence[tuple[int, Estimate]]], name: str) -> str:
    """Top-1 accuracy beside plain CLIP's, in percentage points, over the number of captions.

    Args:
        by_method: a method's name to its (K, difference), by ascending K.
        name: tells the figure from others of the page, here and below.
    """
    with rc_context(_STYLE):
        figure, axes = _figure("captions that vote (K)", "points of top-1 beside plain CLIP")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.axhline(0, color=_INK, linewidth=1)
        for number, (method, points) in enumerate(by_method.items()):
            colour = _SERIES[number % len(_SERIES)]
            ks = [k for k, _ in points]
            value, low, high = (
                [100 * getattr(estimate, part) for _, estimate in points]
                for part in ("value", "low", "high")
            )
            axes.fill_between(ks, low, high, color=colour, alpha=_BAND, linewidth=0)
            axes.plot(
                ks, value, color=colour, label=method, marker=_MARKERS[number % len(_MARKERS)]
            )
        axes.set_xticks(sorted({k for points in by_method.values() for k, _ in points}))
        axes.minorticks_off()
        axes.legend(fontsize=9)
        return _svg(figure, f"{name}-k")


def reliability(details: Mapping[str, Detail], name: str) -> str:
    """Share of right answers over the probability given to them, one line a method."""
    with rc_context(_STYLE):
        figure, axes = _figure("probability of the answer", "share that is right")
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=":")
        for number, (method, detail) in enumerate(details.items()):
            bins = detail.reliability
            filled = np.array(bins.counts) > 0
            axes.plot(
                np.array(bins.probability)[filled],
                np.array(bins.accuracy)[filled],
                color=_SERIES[number],
                marker=_MARKERS[number],
                label=method,
            )
        _percent(axes)
        axes.legend(fontsize=9)
        return _svg(figure, f"{name}-reliability")


def coverage(details: Mapping[str, Detail], name: str) -> str:
    """Accuracy among the surest answers, over how many are kept."""
    with rc_context(_STYLE):
        figure, axes = _figure("surest answers kept", "accuracy among them")
        for number, (method, detail) in enumerate(details.items()):
            axes.plot(COVERAGES, detail.coverage, color=_SERIES[number], label=method)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, 0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0))
        axes.legend(fontsize=9)
        return _svg(figure, f"{name}-coverage")


def confidences(detail: Detail, name: str) -> str:
    """How sure each modality is, as two histograms."""
    with rc_context(_STYLE):
        figure, axes = _figure("confidence, 1 - H(p) / ln C", "images")
        edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
        for number, (modality, counts) in enumerate(
            {"image": detail.image_confidence, "captions": detail.text_confidence}.items()
        ):
            axes.stairs(counts, edges, fill=True, color=_SERIES[number], alpha=0.35)
            axes.stairs(counts, edges, color=_SERIES[number], linewidth=1.8, label=modality)
        axes.legend(fontsize=9)
        return _svg(figure, f"{name}-confidence")


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    # Not through pyplot, which keeps every figure in a global.
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _percent(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks(np.linspace(0, 1, CALIBRATION_BINS // 3 + 1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, 0))


def _svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element for the inside of a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    whole = buffer.getvalue()
    return _themed(_with_own_ids(whole[whole.index("<svg") :], re.sub(r"\W+", "-", name)))


def _themed(svg: str) -> str:
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def _with_own_ids(svg: str, prefix: str) -> str:
    """Ids that no other figure of the page has."""
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace('xlink:href="#', f'xlink:href="#{prefix}-')
    return svg.replace("url(#", f"url(#{prefix}-")
