"""Write a CLIP with random weights in the format that infinity-emb loads.

Run by the Python of infinity-emb's own environment, so that the files are of the version of
transformers that will read them:

    python infinity_model.py SHAPE.json DIR

SHAPE.json is a `model_cfg` of open_clip.
"""

import json
import sys
from pathlib import Path
from typing import Any

from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

_START, _END = "<|startoftext|>", "<|endoftext|>"


def clip_config(shape: dict[str, Any]) -> Any:
    """The configuration in transformers of a vision transformer in open_clip."""
    vision, text = shape["vision_cfg"], shape["text_cfg"]
    both = {"hidden_act": "gelu", "projection_dim": shape["embed_dim"]}
    return CLIPConfig(
        projection_dim=shape["embed_dim"],
        vision_config=both
        | {
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        text_config=both
        | {
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "vocab_size": text["vocab_size"],
        },
    )


def tokenizer(directory: Path, vocabulary_size: int) -> Any:
    """A tokenizer of single letters: infinity-emb needs one to start, images need none."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    numbers = {token: number for number, token in enumerate(tokens)}
    # As in CLIP, the two marks are the last of the vocabulary.
    numbers |= {_START: vocabulary_size - 2, _END: vocabulary_size - 1}
    (directory / "vocab.json").write_text(json.dumps(numbers))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(directory / "vocab.json"), str(directory / "merges.txt"))


def main() -> None:
    """Write model, image processor and tokenizer."""
    shape = json.loads(Path(sys.argv[1]).read_text())
    directory = Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    CLIPModel(clip_config(shape)).save_pretrained(directory)
    size = shape["vision_cfg"]["image_size"]
    images = CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    words = tokenizer(directory, shape["text_cfg"]["vocab_size"])
    processor: Any = CLIPProcessor
    processor(images, words).save_pretrained(directory)


if __name__ == "__main__":
    main()
