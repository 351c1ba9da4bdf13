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
from tests.evaluation.conftest import CLASSES, PER_CLASS


class NoCaptions:
    @staticmethod
    def embeddings(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.empty((len(ids), 0), np.float32)


def ours(
    model: str, dataset: LabelledImages, templates: Sequence[str], work: Path
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Predicted labels, and the positions of the images."""
    clip = load_model(model, None, Precision.FP32)
    images = embed_images(dataset, clip, work, lambda _: None)
    w = LabelEncoder(clip.encode_texts, 0).embed(dataset.classes, templates)
    none = np.empty((len(images), 0), np.int64)
    with cast_votes(images.vectors, none, NoCaptions(), w, clip.logit_scale, work) as votes:
        return answer(votes, images.targets, Method.IMAGE).labels, images.positions


@torch.inference_mode()
def open_clips(
    model: str,
    dataset: LabelledImages,
    positions: Sequence[int],
    templates: Sequence[str],
) -> list[int]:
    """Predicted labels by open_clip alone."""
    network: Any
    network, preprocess = open_clip.create_model_from_pretrained(model, precision="fp32")
    network.eval()
    classifier = open_clip.build_zero_shot_classifier(
        network, open_clip.get_tokenizer(model), dataset.classes, templates
    )
    predicted = []
    for start in range(0, len(positions), 32):
        chunk = [dataset.load(int(p)).image for p in positions[start : start + 32]]
        batch = torch.stack([preprocess(image) for image in chunk])
        features = network.encode_image(batch, normalize=True)
        predicted += (100.0 * features @ classifier).argmax(dim=-1).tolist()
    return predicted


@pytest.mark.parametrize("templates", ["single", "simple"])
def test_on_a_generated_set(
    tiny_model_dir: Path, image_folder: Path, tmp_path: Path, templates: str
) -> None:
    (dataset,) = open_datasets([str(image_folder)], Reading())
    model = f"local-dir:{tiny_model_dir}"
    labels, positions = ours(model, dataset, ENSEMBLES[templates], tmp_path)
    assert len(labels) == len(CLASSES) * PER_CLASS
    assert labels.tolist() == open_clips(model, dataset, positions.tolist(), ENSEMBLES[templates])
    assert len(set(labels.tolist())) > 1


@pytest.mark.parametrize("name", ["imagenette", "caltech101"])
def test_on_real_photos_with_the_carried_model(
    labelled_data: Path, tmp_path: Path, name: str
) -> None:
    (dataset,) = open_datasets([str(labelled_data / f"{name}.tar")], Reading())
    model = f"local-dir:{ROOT / 'models' / 'mini'}"
    labels, positions = ours(model, dataset, ENSEMBLES["single"], tmp_path)
    assert labels.tolist() == open_clips(model, dataset, positions.tolist(), ENSEMBLES["single"])
