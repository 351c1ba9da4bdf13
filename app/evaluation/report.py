"""`report.html`: one page that needs nothing else, with plots and a gallery."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.evaluation import plots
from app.evaluation.gallery import Exhibit
from app.evaluation.protocol import Method
from app.evaluation.results import Detail, Estimate, Results, SetResult
from app.evaluation.run import DETAILED
from app.evaluation.tables import METHOD_NAMES, Line, lines, percent, points

_TEMPLATE = "report.html.jinja"
_SWEPT = (Method.REQUEST, Method.MEAN, Method.BATCH, Method.STREAM)


@dataclass(frozen=True, slots=True)
class _Figure:
    """A plot, with what it shows in words."""

    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class _Section:
    """What the page shows of one set with one collection."""

    index: str
    figures: list[_Figure]
    classes: list[tuple[str, int, list[str]]]
    mended: list[Exhibit]
    spoiled: list[Exhibit]


def write_report(results: Results, exhibits: Sequence[Sequence[Exhibit]], path: Path) -> None:
    """Write the page.

    Args:
        results: what was measured.
        exhibits: of each set, in the order of `results.sets`.
        path: of the page.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["points"] = points
    page = environment.get_template(_TEMPLATE).render(
        results=results,
        tables={
            name: [line for line in lines(results) if line.configuration.templates == name]
            for name in results.templates
        },
        method_names=METHOD_NAMES,
        detailed=[METHOD_NAMES[method] for method in DETAILED],
        sweeps=_sweeps(results),
        sections=[
            _sections(results, one, shown)
            for one, shown in zip(results.sets, exhibits, strict=True)
        ],
    )
    path.write_text(page, encoding="utf-8")


def _first(results: Results) -> str:
    return next(iter(results.templates))


def _sweeps(results: Results) -> list[_Figure]:
    """Mean difference from plain CLIP over K, for each collection."""
    return [
        _Figure(
            Markup(plots.differences(by_method, index.name)),  # noqa: S704 - matplotlib escapes its text
            f"Captions of {index.name}: top-1 beside plain CLIP, mean of the sets, with 95 % "
            "intervals.",
        )
        for index in results.indexes
        if (by_method := _differences(lines(results), index.name, _first(results)))
    ]


def _differences(
    all_lines: Sequence[Line], index: str, templates: str
) -> dict[str, list[tuple[int, Estimate]]]:
    found: dict[str, list[tuple[int, Estimate]]] = {}
    for method in _SWEPT:
        for line in all_lines:
            c = line.configuration
            wanted = c.method is method and c.index == index and c.templates == templates
            if wanted and c.rerank and c.crops == 1 and line.difference is not None:
                found.setdefault(METHOD_NAMES[method], []).append((c.k, line.difference))
    return found


def _sections(results: Results, one: SetResult, exhibits: Sequence[Exhibit]) -> list[_Section]:
    sections = []
    for index in results.indexes:
        details = _details(one, index.name, _first(results))
        if len(details) < len(DETAILED):
            continue
        name = f"{one.name}-{index.name}"
        fused = details[METHOD_NAMES[Method.REQUEST]]
        drawn = (
            (
                plots.reliability(details, name),
                "Calibration: below the dotted line, answers are less often right than they claim.",
            ),
            (plots.coverage(details, name), "Accuracy when only the surest answers are kept."),
            (plots.confidences(fused, name), "How sure image and captions are, by image."),
        )
        shown = [exhibit for exhibit in exhibits if exhibit.index == index.name]
        sections.append(
            _Section(
                index.name,
                [_Figure(Markup(svg), caption) for svg, caption in drawn],  # noqa: S704 - as above
                _classes(one, list(details.values())),
                [exhibit for exhibit in shown if exhibit.mended],
                [exhibit for exhibit in shown if not exhibit.mended],
            )
        )
    return sections


def _details(one: SetResult, index: str, templates: str) -> dict[str, Detail]:
    """Details of the methods in DETAILED, by their names."""
    return {
        METHOD_NAMES[method]: detail
        for method in DETAILED
        for detail in one.details
        if detail.configuration.method is method
        and detail.configuration.index in (None, index)
        and detail.configuration.templates == templates
    }


def _classes(one: SetResult, details: Sequence[Detail]) -> list[tuple[str, int, list[str]]]:
    """Each class with its number of images and its accuracy under each method."""
    return [
        (
            name,
            one.class_images[row],
            [
                "-" if (share := detail.class_accuracy[row]) is None else percent(share)
                for detail in details
            ],
        )
        for row, name in enumerate(one.classes)
    ]
