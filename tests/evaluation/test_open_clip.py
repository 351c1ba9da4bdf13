"""Plain CLIP here is open_clip's own zero-shot pipeline: the same prediction for every image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import torch

from app.clip.labels import LabelEncoder
from app.clip.model import load_model
from app.evaluation.datasets.detect import Reading, open_datasets
from app.evaluation.datasets.labelled import LabelledImages
from app.evaluation.embeddings import embed_images
from app.evaluation.prompts import ENSEMBLES
from app.evaluation.protocol import Method, answer, cast_votes
from app.settings import ROOT, Precision


class NoCaptions:
    @staticmethod
    def embeddings(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.empty((len(ids), 0), np.float32)


def ours(
    model: str, dataset: LabelledImages, templates: Sequence[str], work: Path
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Probabilities (n, labels), predicted labels, and the positions of the images."""
    clip = load_model(model, None, Precision.FP32)
    images = embed_images(dataset, clip, work, lambda _: None)
    w = LabelEncoder(clip.encode_texts, 0).embed(dataset.classes, templates)
    none = np.empty((len(images), 0), np.int64)
    with cast_votes([images.vectors], none, NoCaptions(), w, clip.logit_scale, work) as votes:
        answers = answer(votes, images.targets, Method.IMAGE)
        return np.array(votes.image), answers.labels, images.positions


@torch.inference_mode()
def open_clips(
    model: str,
    dataset: LabelledImages,
    positions: Sequence[int],
    templates: Sequence[str],
) -> npt.NDArray[np.float32]:
    """Probabilities, (n, labels), by open_clip alone."""
    network: Any
    network, preprocess = open_clip.create_model_from_pretrained(model, precision="fp32")
    network.eval()
    classifier = open_clip.build_zero_shot_classifier(
        network, open_clip.get_tokenizer(model), dataset.classes, templates
    )
    parts = []
    for start in range(0, len(positions), 32):
        chunk = [dataset.load(int(p)).image for p in positions[start : start + 32]]
        batch = torch.stack([preprocess(image) for image in chunk])
        features = network.encode_image(batch, normalize=True)
        parts.append((network.logit_scale.exp() * features @ classifier).softmax(dim=-1))
    found: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def check(model: str, dataset: LabelledImages, templates: Sequence[str], work: Path) -> None:
    probabilities, labels, positions = ours(model, dataset, templates, work)
    theirs = open_clips(model, dataset, positions.tolist(), templates)
    assert len(labels) == len(theirs) > 0
    assert labels.tolist() == theirs.argmax(axis=1).tolist()
    np.testing.assert_allclose(probabilities, theirs, atol=1e-4)


@pytest.mark.parametrize("templates", ["single", "simple"])
def test_on_a_generated_set(
    tiny_model_dir: Path, image_folder: Path, tmp_path: Path, templates: str
) -> None:
    (dataset,) = open_datasets([str(image_folder)], Reading())
    check(f"local-dir:{tiny_model_dir}", dataset, ENSEMBLES[templates], tmp_path)


@pytest.mark.parametrize("name", ["imagenette", "caltech101"])
def test_on_real_photos_with_the_carried_model(
    labelled_data: Path, tmp_path: Path, name: str
) -> None:
    (dataset,) = open_datasets([str(labelled_data / f"{name}.tar")], Reading())
    check(f"local-dir:{ROOT / 'models' / 'mini'}", dataset, ENSEMBLES["single"], tmp_path)
