"""Write `app/clip/zoo.json`: the models that open_clip knows by name, as `xmore models` lists them.

    python -m tools.models > app/clip/zoo.json

Names come from the installed open_clip. Parameters are counted on torch's meta device, which holds
shapes and no numbers, so nothing is downloaded; where a text tower's own shape is only known to the
hub, the count is null.
"""

import json
import logging
import sys
import warnings
from typing import Any

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained

_QUICK_GELU = "-quickgelu"
_COUNT_ERRORS = (OSError, RuntimeError, ImportError)


def zoo() -> dict[str, Any]:
    """The whole file."""
    weights = [
        {"architecture": name, "pretrained": tag, "hub": get_pretrained_cfg(name, tag)["hf_hub"]}
        for name, tag in list_pretrained()
        # The same weights under a second name; the loader sets the activation by the tag.
        if not name.endswith(_QUICK_GELU)
    ]
    names = dict.fromkeys(entry["architecture"] for entry in weights)
    return {
        "open_clip": open_clip.__version__,
        "architectures": {name: architecture(name) for name in names},
        "weights": weights,
    }


def architecture(name: str) -> dict[str, Any]:
    """Parameters, side of the image in pixels, and whether texts need the package transformers."""
    config = open_clip.get_model_config(name)
    text = config["text_cfg"]
    return {
        "parameters": None if "hf_model_name" in text else parameters(name),
        "image_size": config["vision_cfg"]["image_size"],
        "needs_transformers": "hf_tokenizer_name" in text,
    }


def parameters(name: str) -> int | None:
    """Of both towers, all that is trained; None where a shape is not known here."""
    try:
        with torch.device("meta"):
            network = open_clip.create_model(name, load_weights=False, device="meta")
    except _COUNT_ERRORS:
        return None
    return sum(int(parameter.numel()) for parameter in network.parameters())


def main() -> None:
    """Print the file."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    json.dump(zoo(), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
