"""Prompt ensembles by name: the template lists that open_clip carries."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from app.clip.labels import DEFAULT_TEMPLATE
from app.evaluation.datasets.labelled import DatasetError


def _written(templates: Sequence[Callable[[str], str]]) -> list[str]:
    """open_clip keeps templates as functions of the class name."""
    return [template("{}") for template in templates]


ENSEMBLES: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "single": [DEFAULT_TEMPLATE],
        "simple": _written(SIMPLE_IMAGENET_TEMPLATES),
        "openai": _written(OPENAI_IMAGENET_TEMPLATES),
    }
)
"""`single` is the paper's prompt; `simple` (7) and `openai` (80) are the lists that CLIP's authors
made for ImageNet."""


def choose(names: Sequence[str], own: Sequence[str]) -> dict[str, list[str]]:
    """Prompt ensembles by name, in the order given; `own` templates are one more, named `own`.

    Raises:
        DatasetError: no such ensemble, or a template without its one `{}`.
    """
    unknown = [name for name in names if name not in ENSEMBLES]
    if unknown:
        raise DatasetError(f"no templates '{unknown[0]}'; known are {', '.join(ENSEMBLES)}")
    wrong = [template for template in own if template.count("{}") != 1]
    if wrong:
        raise DatasetError(f"the template '{wrong[0]}' needs one {{}}")
    chosen = {name: list(ENSEMBLES[name]) for name in names}
    if own:
        chosen["own"] = list(own)
    return chosen or {"single": list(ENSEMBLES["single"])}
