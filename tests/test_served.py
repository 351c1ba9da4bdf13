"""The carried model and captions behind the real server: what a stranger sees first."""

import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient
from PIL import Image
from skimage import data

from tests.photos import encode
from tests.serving import running

LABELS = ["cat", "dog", "cup of coffee", "rocket", "bicycle", "person"]
PHOTOS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "cat": (data.chelsea, ("cat", "kitten")),
    "cup of coffee": (data.coffee, ("coffee", "espresso", "cup")),
    "rocket": (data.rocket, ("rocket", "missile", "launch")),
}


def photo(label: str) -> bytes:
    """A photograph from the scikit-image package, as a PNG file."""
    return encode(Image.fromarray(PHOTOS[label][0]()))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XMORE_")}
    log = tmp_path_factory.mktemp("served") / "log"
    with running(environment | {"XMORE_PORT": "0"}, log) as server:
        yield str(server.client.base_url).rstrip("/")


def classify(url: str, image: bytes, **fields: Any) -> Any:
    response = httpx.post(
        f"{url}/v1/classify", files={"image": ("photo.png", image)}, data=fields, timeout=60
    )
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("label", PHOTOS)
def test_a_real_photo_gets_its_label_and_captions_that_speak_of_it(url: str, label: str) -> None:
    answer = classify(url, photo(label), labels=LABELS)
    assert (answer["model"], answer["index"]) == ("mini", "default")
    result = answer["results"][0]
    assert result["predictions"][0]["label"] == label
    assert len(result["captions"]) == 16
    words = PHOTOS[label][1]
    telling = [c for c in result["captions"] if any(word in c["text"] for word in words)]
    assert len(telling) >= 8, result["captions"]
    shares = [modality["weight"] for modality in result["modalities"].values()]
    assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_the_answer_says_how_long_each_stage_took(url: str) -> None:
    timings = classify(url, photo("cat"), labels=LABELS)["timings"]
    stages = sum(timings[f"{stage}_ms"] for stage in ("decode", "encode", "retrieve", "fuse"))
    assert 0 < stages <= timings["total_ms"]


def test_hugging_faces_client_gets_its_answer(url: str) -> None:
    client = InferenceClient(model=f"{url}/v1/zero-shot-image-classification")
    answer = client.zero_shot_image_classification(photo("cat"), candidate_labels=LABELS)
    assert answer[0].label == "cat"
    assert sum(item.score for item in answer) == pytest.approx(1, abs=1e-4)


def test_info_names_the_model_and_the_collection_that_it_was_made_for(url: str) -> None:
    info = httpx.get(f"{url}/v1/info").json()
    assert info["model"]["name"] == "mini"
    assert info["model"]["precision"] in ("fp32", "bf16")
    assert info["model"]["engine"] == "torch"
    assert info["index"]["captions"] >= 30_000


def test_it_is_alive_and_ready(url: str) -> None:
    for probe in ("healthz", "readyz"):
        assert httpx.get(f"{url}/{probe}").status_code == 200


def test_a_photo_says_the_same_in_every_usual_format(url: str) -> None:
    image = Image.open(io.BytesIO(photo("cat")))
    for format_ in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"):
        answer = classify(url, encode(image, format_), labels=LABELS)
        best = answer["results"][0]["predictions"][0]
        assert best["label"] == "cat", format_
