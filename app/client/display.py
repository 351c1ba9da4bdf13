"""How results look: as plain text, and as HTML for notebooks.

The HTML stands alone: no script, no outside resource, colours that suit light and dark pages. All
that came from outside is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.client.results import Caption, Classification, ImageResult, Modality, Prediction

_BAR = 20
_SHOWN = 10
"""Labels and captions that are shown of each image; the result holds all."""

_EIGHTHS = " ▏▎▍▌▋▊▉"

_TABLE = "border-collapse:collapse;margin:.25em 0;font-size:90%"
_CELL = "padding:.1em .6em;text-align:left;background:none"
_NUMBER = "padding:.1em .6em;text-align:right;background:none;font-variant-numeric:tabular-nums"
_TRACK = "width:10em;height:.8em;background:rgba(127,127,127,.2);border-radius:2px"
_FILL = "height:100%;border-radius:2px;background:#2a9d6f"
_QUIET = "opacity:.75;margin:.25em 0;font-size:90%"


def image_as_text(result: ImageResult) -> str:
    """The answer for one image as lines of plain text."""
    return "\n".join(_image_lines(result))


def classification_as_text(answer: Classification) -> str:
    """All images, a blank line between them, and the warnings at the end."""
    parts = [image_as_text(result) for result in answer.results]
    return "\n\n".join([*parts, *(f"warning: {warning}" for warning in answer.warnings)])


def caption_lines(captions: Sequence[Caption]) -> Iterator[str]:
    """A caption a line, with its similarity."""
    for caption in captions:
        yield f"{caption.similarity:6.3f}  {caption.text}"


def _image_lines(result: ImageResult) -> Iterator[str]:
    yield result.filename
    shown = result.predictions[:_SHOWN]
    width = max((len(p.label) for p in shown), default=0)
    for p in shown:
        yield f"  {p.label:<{width}}  {p.probability:6.1%}  {_bar(p.probability)}  {_votes(p)}"
    yield from _rest(len(result.predictions), "labels")
    yield f"  weights: {_weights(result)}"
    for line in caption_lines(result.captions[:_SHOWN]):
        yield f"  {line}"
    yield from _rest(len(result.captions), "captions")


def _bar(share: float) -> str:
    eighths = round(8 * _BAR * min(max(share, 0.0), 1.0))
    bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return f"{bar:<{_BAR}}"


def _votes(p: Prediction) -> str:
    return f"image {p.image_probability:.1%}, captions {_percent(p.text_probability)}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _weights(result: ImageResult) -> str:
    def told(name: str, modality: Modality) -> str:
        return f"{name} {modality.weight:.2f} (confidence {modality.confidence:.2f})"

    modalities = result.modalities
    return f"{told('image', modalities.image)}, {told('captions', modalities.text)}"


def _rest(total: int, what: str) -> Iterator[str]:
    if total > _SHOWN:
        yield f"  … {total - _SHOWN} more {what}"


def as_html(results: Sequence[ImageResult], warnings: Sequence[str] = ()) -> str:
    """Results one below the other, then the warnings."""
    told = [f'<p style="{_QUIET}">warning: {escape(warning)}</p>' for warning in warnings]
    return "".join(["<div>", *(_image_html(result) for result in results), *told, "</div>"])


def captions_as_html(captions: Sequence[Caption]) -> str:
    """A table of captions and their similarity."""
    rows = "".join(
        f'<tr><td style="{_NUMBER}">{caption.similarity:.3f}</td>'
        f'<td style="{_CELL}">{escape(caption.text)}</td></tr>'
        for caption in captions
    )
    return f'<table style="{_TABLE}"><tbody>{rows}</tbody></table>'


def _image_html(result: ImageResult) -> str:
    heads = "".join(
        f'<th scope="col" style="{_CELL}">{head}</th>'
        for head in ("label", "probability", "", "image", "captions")
    )
    rows = "".join(_row_html(p) for p in result.predictions[:_SHOWN])
    captions = captions_as_html(result.captions[:_SHOWN]) if result.captions else ""
    return (
        f"<p><b>{escape(result.filename)}</b></p>"
        f'<table style="{_TABLE}"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        + _note(_rest(len(result.predictions), "labels"))
        + _note([f"weights: {_weights(result)}"])
        + captions
        + _note(_rest(len(result.captions), "captions"))
    )


def _row_html(p: Prediction) -> str:
    width = 100 * min(max(p.probability, 0.0), 1.0)
    return (
        f'<tr><th scope="row" style="{_CELL}">{escape(p.label)}</th>'
        f'<td style="{_NUMBER}">{p.probability:.1%}</td>'
        f'<td style="{_CELL}"><div style="{_TRACK}">'
        f'<div style="{_FILL};width:{width:.1f}%"></div></div></td>'
        f'<td style="{_NUMBER}">{p.image_probability:.1%}</td>'
        f'<td style="{_NUMBER}">{_percent(p.text_probability)}</td></tr>'
    )


def _note(lines: Sequence[str] | Iterator[str]) -> str:
    return "".join(f'<p style="{_QUIET}">{escape(line.strip())}</p>' for line in lines)
