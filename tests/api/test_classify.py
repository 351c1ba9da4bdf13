"""`POST /v1/classify`: what it answers, and how it refuses."""

import io
import json
from collections.abc import Iterator
from typing import Any

import open_clip
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from app.clip.crops import CROPS, crop
from app.clip.labels import DEFAULT_TEMPLATE
from app.engine import Engine
from app.settings import Settings
from app.xmore.ensemble import vote
from tests.photos import encode, gradient
from tests.serving import form

PNG = encode(gradient())


def post(
    client: TestClient, files: list[tuple[str, bytes]] | None = None, **data: Any
) -> tuple[int, Any]:
    uploads = [("image", file) for file in (files or [("photo.png", PNG)])]
    fields = {"labels": ["cat", "dog", "car"]} | data
    response = client.post("/v1/classify", files=uploads, data=fields)
    if response.status_code != 200:
        assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()


def test_the_answer_has_the_documented_shape(client: TestClient) -> None:
    status, answer = post(client)
    assert status == 200
    assert answer["model"] == "tiny"
    assert answer["index"] == "tiny-index"
    (result,) = answer["results"]
    assert result["filename"] == "photo.png"
    assert {p["label"] for p in result["predictions"]} == {"cat", "dog", "car"}
    for key in ("probability", "image_probability", "text_probability"):
        assert sum(p[key] for p in result["predictions"]) == pytest.approx(1, abs=1e-5)
    shares = [p["probability"] for p in result["predictions"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(m["weight"] for m in result["modalities"].values()) == pytest.approx(1, abs=1e-5)
    assert len(result["captions"]) == 16
    similarities = [caption["similarity"] for caption in result["captions"]]
    assert similarities == sorted(similarities, reverse=True)
    assert set(answer["timings"]) == {
        "decode_ms",
        "encode_ms",
        "retrieve_ms",
        "fuse_ms",
        "total_ms",
    }
    assert answer["warnings"] == []
    assert answer["timings"]["total_ms"] > 0


def test_labels_may_come_as_one_json_array(client: TestClient) -> None:
    _, repeated = post(client)
    _, array = post(client, labels=json.dumps(["cat", "dog", "car"]))
    assert array["results"] == repeated["results"]


def test_results_follow_the_order_of_the_files(client: TestClient) -> None:
    other = encode(gradient().rotate(90))
    _, answer = post(client, [("a.png", PNG), ("b.png", other)])
    assert [result["filename"] for result in answer["results"]] == ["a.png", "b.png"]
    _, alone = post(client, [("b.png", other)])
    together, single = answer["results"][1], alone["results"][0]
    assert together["captions"][0]["id"] == single["captions"][0]["id"]
    for a, b in zip(together["predictions"], single["predictions"], strict=True):
        assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)


def test_no_captions_means_plain_clip_and_says_so(client: TestClient) -> None:
    _, answer = post(client, captions=0)
    (result,) = answer["results"]
    assert result["captions"] == []
    assert result["modalities"]["image"]["weight"] == 1
    for p in result["predictions"]:
        assert p["text_probability"] is None
        assert p["probability"] == p["image_probability"]


def test_top_k_cuts_after_the_probabilities_are_made(client: TestClient) -> None:
    _, whole = post(client)
    _, cut = post(client, top_k=1)
    assert cut["results"][0]["predictions"] == whole["results"][0]["predictions"][:1]


@pytest.mark.parametrize("fusion", ["confidence", "product", "mean", "image", "text"])
def test_every_fusion_mode_answers_with_its_weights(client: TestClient, fusion: str) -> None:
    _, answer = post(client, fusion=fusion)
    weights = answer["results"][0]["modalities"]
    expected = {"product": 0.9, "mean": 0.5, "image": 1.0, "text": 0.0}.get(fusion)
    if expected is not None:
        assert weights["image"]["weight"] == expected


def test_votes_tell_what_each_caption_says(client: TestClient) -> None:
    _, without = post(client)
    status, answer = post(client, votes="true")
    assert status == 200
    (result,) = answer["results"]
    for prediction in result["predictions"]:
        said = [caption["votes"][prediction["label"]] for caption in result["captions"]]
        assert sum(said) / len(said) == pytest.approx(prediction["text_probability"], abs=1e-9)
    for caption in result["captions"]:
        assert sum(caption.pop("votes").values()) == pytest.approx(1, abs=1e-9)
    assert answer["results"] == without["results"]


def test_templates_make_an_ensemble(client: TestClient) -> None:
    _, one = post(client, template=["a photo of a {}."])
    _, several = post(client, template=["a photo of a {}.", "a drawing of a {}."])
    _, default = post(client)
    assert default["results"] == one["results"]
    assert several["results"] != one["results"]


@pytest.mark.parametrize(
    ("data", "field", "said"),
    [
        ({"labels": "[]"}, "labels", "at least one"),
        ({"labels": ["cat", " "]}, "labels", "label 2 is blank"),
        ({"labels": ["cat", "dog", "cat"]}, "labels", "'cat'"),
        ({"labels": [f"label {i}" for i in range(51)]}, "labels", "51 labels, at most 50"),
        ({"labels": ["x" * 41]}, "labels", "41 characters"),
        ({"labels": "[1, 2]"}, "labels", "JSON array of strings"),
        ({"labels": '["cat"'}, "labels", "JSON array of strings"),
        ({"labels": '["cat", null]'}, "labels", "JSON array of strings"),
        ({"labels": '[["cat"]]'}, "labels", "JSON array of strings"),
        ({"labels": "[" * 100_000}, "labels", "JSON array of strings"),
        ({"labels": f"[{'9' * 5000}]"}, "labels", "JSON array of strings"),
        ({"labels": r'["\ud83d"]'}, "labels", "label 1 holds the control character U+D83D"),
        ({"labels": ["cat", "d\0g"]}, "labels", "label 2 holds the control character U+0000"),
        ({"labels": ["cat\u009bdog"]}, "labels", "U+009B"),
        ({"labels": [f"label {i}" for i in range(10_000)]}, "labels", "10000 labels, at most 50"),
        ({"labels": json.dumps([f"{i}" for i in range(10_000)])}, "labels", "10000 labels"),
        ({"template": "a {}\n"}, "template", "template 1 holds the control character U+000A"),
        ({"template": "a photo"}, "template", "exactly one {}"),
        ({"template": "{} and {}"}, "template", "exactly one {}"),
        ({"template": ["{}"] * 4}, "template", "at most 3"),
        ({"captions": 65}, "captions", "less than or equal to 64"),
        ({"captions": -1}, "captions", "greater than or equal to 0"),
        ({"fusion": "vote"}, "fusion", "'confidence'"),
        ({"normalization": "stream"}, "normalization", "'request'"),
        ({"top_k": 0}, "top_k", "greater than or equal to 1"),
    ],
)
def test_a_value_out_of_range_is_named(
    client: TestClient, data: dict[str, Any], field: str, said: str
) -> None:
    status, problem = post(client, **data)
    assert status == 422
    assert problem["status"] == 422
    assert problem["title"]
    (error,) = problem["errors"]
    assert error["field"] == field
    assert said in error["detail"]


def test_a_label_longer_than_the_context_is_answered_with_a_warning(client: TestClient) -> None:
    long = "a b c d e f g h i j k l m n o p q"
    status, answer = post(client, labels=["cat", long])
    assert status == 200
    assert answer["warnings"] == ["label 2 is longer than the model reads: its end was cut off"]


@pytest.mark.parametrize(
    "label", ["猫", "кошка", "قطة", "👩‍👩‍👧", "e\u0301", "\u202eright", "\U0001f408"]
)
def test_any_unicode_is_a_label(client: TestClient, label: str) -> None:
    status, answer = post(client, labels=[label, "dog"])
    assert status == 200
    assert {p["label"] for p in answer["results"][0]["predictions"]} == {label, "dog"}


def test_corners_of_the_image_vote_where_they_are_asked_for(
    client: TestClient, tiny_engine: Engine
) -> None:
    photo = gradient(200, 150)
    labels = ["cat", "dog", "fox"]
    files = {"image": ("photo.png", encode(photo))}
    data = {"labels": labels, "fusion": "image", "crops": "true"}
    response = client.post("/v1/classify", data=data, files=files)
    assert response.status_code == 200
    model = tiny_engine.model
    views = model.encode_images([model.pixels(crop(photo, n)) for n in range(CROPS)])
    w = tiny_engine.labels.embed(labels, [DEFAULT_TEMPLATE])
    expected = vote(views, w, model.logit_scale).mean(axis=0)
    (result,) = response.json()["results"]
    for prediction in result["predictions"]:
        row = labels.index(prediction["label"])
        assert prediction["image_probability"] == pytest.approx(expected[row], abs=1e-4)
    alone = client.post("/v1/classify", data={**data, "crops": "false"}, files=files).json()
    # What is retrieved is for the image itself.
    assert [c["id"] for c in alone["results"][0]["captions"]] == [
        c["id"] for c in result["captions"]
    ]
    before = {p["label"]: p["image_probability"] for p in alone["results"][0]["predictions"]}
    assert any(
        abs(before[p["label"]] - p["image_probability"]) > 1e-3 for p in result["predictions"]
    )


def test_unknown_fields_are_named(client: TestClient) -> None:
    status, problem = post(client, lables="cat", url="http://localhost/cat.jpg")
    assert status == 422
    assert [error["field"] for error in problem["errors"]] == ["lables", "url"]
    assert "captions, crops, fusion, image, index, labels" in problem["detail"]


@pytest.mark.parametrize(
    ("url", "content_type"),
    [
        ("/v1/classify", "application/json"),
        ("/v1/classify", "application/x-www-form-urlencoded"),
        ("/v1/classify", "image/png"),
        ("/v1/zero-shot-image-classification", "text/plain"),
        ("/v1/zero-shot-image-classification", "multipart/form-data; boundary=b"),
        ("/v1/zero-shot-image-classification", ""),
    ],
)
def test_another_content_type_is_refused(client: TestClient, url: str, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = client.post(url, content=b"labels=cat", headers=headers)
    assert response.status_code == 415
    assert response.headers["content-type"] == "application/problem+json"
    assert "it must be " in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 422, "body"),
        (b"{", 400, "JSON"),
        (b"[" * 100_000, 400, "parsing"),
        (b"\xff\xfe", 400, ""),
        (b'{"inputs": "a", "parameters": {"candidate_labels": ["cat"]}}', 400, "base64"),
        (b'{"inputs": "YQ==", "parameters": {"candidate_labels": ["cat"]}}', 415, "not an image"),
        (b'{"inputs": "YQ==", "parameters": {"candidate_labels": "cat"}}', 422, "candidate_labels"),
        (b'{"inputs": "YQ==", "parameters": {"candidate_labels": [1]}}', 422, "candidate_labels"),
        (b'{"inputs": "YQ==", "parameters": {"candidate_labels": []}}', 422, "at least one"),
        (b'{"inputs": "YQ=="}', 422, "parameters"),
        (b'{"inputs": "YQ==", "parameters": {"labels": ["cat"]}}', 422, "parameters.labels"),
    ],
)
def test_json_that_is_wrong_is_told_how(
    client: TestClient, body: bytes, status: int, said: str
) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/v1/zero-shot-image-classification", content=body, headers=headers)
    assert response.status_code == status
    assert said in response.json()["detail"]


@pytest.mark.parametrize("missing", ["image", "labels"])
def test_a_missing_field_is_named(client: TestClient, missing: str) -> None:
    parts: dict[str, Any] = {"image": ("photo.png", PNG), "labels": (None, "cat")}
    del parts[missing]
    response = client.post("/v1/classify", files=parts)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [missing]


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"", 415, "empty"),
        (b"not an image at all", 415, "not an image"),
        (PNG[: len(PNG) // 2], 415, "damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "render it to PNG"),
        (b"%PDF-1.7", 415, "send its pages as PNG"),
        (b"x" * 200_001, 413, "200001 bytes"),
        (encode(gradient(2000, 501)), 413, "2000 x 501 pixels"),
    ],
)
def test_a_bad_image_fails_the_request_and_is_named(
    client: TestClient, data: bytes, status: int, said: str
) -> None:
    got, problem = post(client, [("good.png", PNG), ("bad.png", data)])
    assert got == status
    assert problem["errors"][0]["field"] == "bad.png"
    assert said in problem["detail"]


def test_too_many_files_are_refused(client: TestClient) -> None:
    status, problem = post(client, [("photo.png", PNG)] * 5)
    assert status == 413
    assert "at most 4" in problem["detail"]


def test_a_body_over_the_limit_is_refused_while_it_is_read(client: TestClient) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'

    def endless() -> Iterator[bytes]:
        yield part
        yield from (b"x" * 2**20 for _ in range(64))

    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = client.post("/v1/classify", content=endless(), headers=headers)
    assert response.status_code == 413
    assert "larger than" in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        (b"--b\r\nbroken", "; boundary=b"),
        (b"no form at all", "; boundary=b"),
        (b"", "; boundary=b"),
        (form(PNG, "cat")[:-6], "; boundary=b"),
        (form(PNG, "cat"), "; boundary=other"),
        (form(PNG, "cat"), ""),
    ],
)
def test_a_malformed_form_is_a_bad_request(client: TestClient, body: bytes, boundary: str) -> None:
    headers = {"content-type": f"multipart/form-data{boundary}"}
    response = client.post("/v1/classify", content=body, headers=headers)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


def test_image_fusion_equals_open_clip_alone(client: TestClient, tiny_settings: Settings) -> None:
    labels = ["cat", "dog", "car"]
    network, preprocess = open_clip.create_model_from_pretrained(tiny_settings.model)
    tokenizer = open_clip.get_tokenizer(tiny_settings.model)
    with torch.inference_mode():
        image = preprocess(Image.open(io.BytesIO(PNG)).convert("RGB")).unsqueeze(0)
        prompts = tokenizer([f"a photo of a {label}." for label in labels])
        logits, _ = network.eval().get_logits(image, prompts)
    expected = dict(zip(labels, logits.softmax(1)[0].tolist(), strict=True))
    _, answer = post(client, fusion="image")
    for p in answer["results"][0]["predictions"]:
        assert p["probability"] == pytest.approx(expected[p["label"]], abs=1e-4)
