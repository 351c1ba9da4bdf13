"""The worked example of `docs/method.md`: its numbers and its plot, from the carried model.

    python docs/method.py

writes the tables between the page's markers, and `docs/method.svg`. The photos are scikit-image's.
"""

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image
from skimage import data

from app.clip.labels import DEFAULT_TEMPLATE
from app.engine import Engine, ImageFile, ImageResult, Question
from app.settings import Precision, Settings
from app.xmore.ensemble import vote
from app.xmore.retrieval import retrieve

PAGE = Path(__file__).with_name("method.md")
PLOT = Path(__file__).with_name("method.svg")
CAPTIONS = 4
PHOTOS = {
    "coffee": ("espresso", "tea", "hot chocolate", "soup", "soy sauce"),
    "coins": ("coins", "buttons", "stones", "pills", "cookies"),
}
BARS = {"image": "#4c78a8", "captions": "#f58518", "fused": "#54a24b"}

_INK, _NIGHT_INK = "#1f2328", "#e6edf3"
_DARK = f"""<style>
@media (prefers-color-scheme: dark) {{
  [style*="fill: {_INK}"] {{ fill: {_NIGHT_INK} !important; }}
  [style*="stroke: {_INK}"] {{ stroke: {_NIGHT_INK} !important; }}
}}
</style>
"""


def load() -> Engine:
    """The carried model and captions, in the precision that every machine has."""
    return Engine.load(Settings(precision=Precision.FP32))


def tables(engine: Engine) -> dict[str, str]:
    """The Markdown tables of the page, by the names of their markers."""
    made = {}
    for name in PHOTOS:
        made[f"{name} captions"] = _captions_table(engine, name)
        made[f"{name} fused"] = _fused_table(classify(engine, name))
    return made


def classify(engine: Engine, name: str) -> ImageResult:
    """The product's answer for one of the photos."""
    question = Question(labels=PHOTOS[name], captions=CAPTIONS)
    return engine.classify([_photo(name)], question).results[0]


def _photo(name: str) -> ImageFile:
    buffer = BytesIO()
    Image.fromarray(getattr(data, name)()).save(buffer, "PNG")
    return ImageFile(f"{name}.png", buffer.getvalue())


def _captions_table(engine: Engine, name: str) -> str:
    """Each caption with its similarity and its vote on the labels."""
    labels = PHOTOS[name]
    v = engine.model.encode_images([engine.decode(_photo(name)).pixels])
    w = engine.labels.embed(labels, (DEFAULT_TEMPLATE,))
    (found,) = retrieve(v, engine.catalog.choose()[1], CAPTIONS)
    votes = vote(found.embeddings, w, engine.model.logit_scale)
    rows = [
        [text, f"{similarity:.3f}", *(f"{p:.3f}" for p in row)]
        for text, similarity, row in zip(found.texts, found.similarities, votes, strict=True)
    ]
    mean = ["**mean: what the captions say**", "", *(f"{p:.3f}" for p in votes.mean(axis=0))]
    return _table(["caption", "cosine", *labels], [*rows, mean])


def _fused_table(result: ImageResult) -> str:
    by_label = {p.label: p for p in result.predictions}
    labels = PHOTOS[result.filename.removesuffix(".png")]
    shown = [by_label[label] for label in labels]
    rows = [
        [
            "image",
            f"{result.image.confidence:.3f}",
            f"{result.image.weight:.3f}",
            *(f"{p.image_probability:.3f}" for p in shown),
        ],
        [
            "captions",
            f"{result.text.confidence:.3f}",
            f"{result.text.weight:.3f}",
            *(f"{p.text_probability:.3f}" for p in shown),
        ],
        ["**fused**", "", "1", *(f"{p.probability:.3f}" for p in shown)],
    ]
    return _table(["", "confidence", "weight", *labels], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def fill(page: str, made: dict[str, str]) -> str:
    """The page with the tables between its markers."""
    for name, table in made.items():
        page, times = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}",  # type: ignore[misc] # bound now
            page,
            flags=re.DOTALL,
        )
        if times != 1:
            raise ValueError(f"{PAGE.name} needs `<!-- {name} -->` once")
    return page


def plot(results: list[ImageResult]) -> str:
    """Probabilities by label for each photo, as an SVG that is legible on white and on black."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "xmore",
        "font.family": "sans-serif",
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        figure, axes = plt.subplots(1, len(results), figsize=(9, 3.4), sharey=True)
        for axis, result in zip(axes, results, strict=True):
            _bars(axis, result)
        axes[0].set_ylabel("probability")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="upper center", ncols=3, frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.92))
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    svg = re.sub(r"[ \t]+$", "", buffer.getvalue().decode(), flags=re.MULTILINE)
    head, tag, rest = svg.partition(" <defs>")
    return head + _DARK + tag + rest


def _bars(axis: Axes, result: ImageResult) -> None:
    labels = PHOTOS[result.filename.removesuffix(".png")]
    by_label = {p.label: p for p in result.predictions}
    series = {
        "image": [by_label[label].image_probability for label in labels],
        "captions": [by_label[label].text_probability or 0.0 for label in labels],
        "fused": [by_label[label].probability for label in labels],
    }
    places = np.arange(len(labels))
    for offset, (name, heights) in zip((-0.27, 0, 0.27), series.items(), strict=True):
        axis.bar(places + offset, heights, 0.25, color=BARS[name], label=name)
    axis.set_xticks(places, labels)
    axis.set_ylim(0, 1)
    axis.set_title(
        f"{result.filename}: weight of the image {result.image.weight:.2f}, "
        f"of the captions {result.text.weight:.2f}",
        fontsize=10,
        color=_INK,
    )


def main() -> None:
    """Write page and plot."""
    engine = load()
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(fill(page, tables(engine)), encoding="utf-8")
    PLOT.write_text(plot([classify(engine, name) for name in PHOTOS]), encoding="utf-8")


if __name__ == "__main__":
    main()
