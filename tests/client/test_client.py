"""Both clients against the real server."""

import asyncio
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel, SecretStr

from app import client as clients
from app.api import schemas
from app.client import AsyncClient, Client, VotingCaption
from app.client.calls import FusionName, NormalizationName
from app.engine import Engine, ServingNormalization
from app.main import create_app
from app.settings import ROOT, Settings
from app.xmore.ensemble import Fusion
from tests.photos import encode, gradient
from tests.serving import serving

LABELS = ["cat", "dog", "car"]
KEY = "a key of enough letters"


@pytest.fixture(scope="module")
def url(tiny_settings: Settings, tiny_engine: Engine) -> Iterator[str]:
    settings = tiny_settings.model_copy(update={"api_keys": [SecretStr(KEY)]})
    with serving(create_app(settings, lambda _: tiny_engine), settings) as http:
        yield str(http.base_url)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, api_key=KEY) as client:
        yield client


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encode(gradient()))
    return path


def raw(url: str, **fields: Any) -> Any:
    """What the server says without this client."""
    response = httpx.post(
        f"{url}/v1/classify",
        headers={"Authorization": f"Bearer {KEY}"},
        files={"image": ("photo.png", encode(gradient()))},
        data={"labels": LABELS, **fields},
    )
    return response.json()["results"]


def test_one_image_is_classified(client: Client, url: str, photo: Path) -> None:
    answer = client.classify(photo, LABELS)
    assert (answer.model, answer.index) == ("tiny", "tiny-index")
    (expected,) = raw(url)
    (result,) = answer
    assert result.filename == "photo.png"
    assert [p.label for p in result.predictions] == [p["label"] for p in expected["predictions"]]
    assert result.best.probability == pytest.approx(expected["predictions"][0]["probability"])
    assert result.modalities.text.weight == pytest.approx(expected["modalities"]["text"]["weight"])
    assert len(result.captions) == len(expected["captions"]) == 16
    assert answer.timings.total_ms > 0


def test_every_form_of_an_image_gets_the_same_answer(client: Client, photo: Path) -> None:
    image = Image.open(photo)
    forms: list[clients.ImageLike] = [
        photo,
        str(photo),
        photo.read_bytes(),
        io.BytesIO(photo.read_bytes()),
    ]
    decoded: list[clients.ImageLike] = [image, np.asarray(image), np.asarray(image) / 255]
    first, *others = [*client.classify(forms, LABELS), *client.classify(decoded, LABELS)]
    for other in others:
        for ours, theirs in zip(first.predictions, other.predictions, strict=True):
            assert ours.label == theirs.label
            assert ours.probability == pytest.approx(theirs.probability, abs=1e-5)


def test_every_option_reaches_the_server(client: Client, photo: Path) -> None:
    answer = client.classify(
        [photo, photo],
        LABELS,
        template=["a photo of a {}.", "{}"],
        captions=3,
        fusion="mean",
        normalization="batch",
        top_k=2,
        index="tiny-index",
    )
    for result in answer:
        assert len(result.predictions) == 2
        assert len(result.captions) == 3
        assert result.modalities.image.weight == 0.5
    assert client.classify(photo, LABELS, captions=0)[0].best.text_probability is None


def test_captions_tell_their_votes_where_they_were_asked_for(client: Client, photo: Path) -> None:
    for caption in client.classify(photo, LABELS, votes=True)[0].captions:
        assert isinstance(caption, VotingCaption)
        assert set(caption.votes) == set(LABELS)
        assert sum(caption.votes.values()) == pytest.approx(1)
    (result,) = client.classify(photo, LABELS)
    assert not any(isinstance(caption, VotingCaption) for caption in result.captions)


def test_one_template_may_be_given_as_it_is(client: Client, url: str, photo: Path) -> None:
    (expected,) = raw(url, template="{}")
    best = client.classify(photo, LABELS, template="{}")[0].best
    assert best.probability == pytest.approx(expected["predictions"][0]["probability"])


def test_a_label_that_looks_like_json_stays_what_it_is(client: Client, photo: Path) -> None:
    assert client.classify(photo, ['["cat"]'])[0].best.label == '["cat"]'


def test_captions_are_found_by_text_and_by_image(client: Client, photo: Path) -> None:
    found = client.search(text="a red car in the rain", k=5)
    assert found[0].text == "a red car in the rain"
    assert len(found) == 5
    by_image = client.search(photo, k=3, index="tiny-index")
    best = client.classify(photo, LABELS, captions=3)[0].captions
    assert [caption.id for caption in by_image] == [caption.id for caption in best]


def test_a_search_needs_one_question(client: Client) -> None:
    with pytest.raises(TypeError, match="either an image or a text"):
        client.search()
    with pytest.raises(TypeError, match="either an image or a text"):
        client.search(b"image", text="words")


def test_info_and_readiness(client: Client) -> None:
    info = client.info()
    assert info.model.name == "tiny"
    assert info.index == info.indexes[0]
    assert info.limits.max_images == 4
    assert client.ready()


@pytest.mark.parametrize("key", [None, "not the right key"])
def test_without_the_key_there_is_no_answer(url: str, key: str | None) -> None:
    with Client(url, api_key=key) as client:
        with pytest.raises(clients.UnauthorizedError, match="API key"):
            client.info()
        assert client.ready()


def test_a_refusal_names_the_file(client: Client, photo: Path) -> None:
    with pytest.raises(clients.InvalidRequestError) as caught:
        client.classify([photo, b"no image"], LABELS)
    assert caught.value.status == 415
    assert [entry.field for entry in caught.value.errors] == ["image-2"]
    assert caught.value.request_id
    assert isinstance(caught.value, clients.XmoreError)


def test_nothing_is_asked_about_what_cannot_be_sent(client: Client) -> None:
    with pytest.raises(clients.BadImageError, match="Nothing is fetched"):
        client.classify("http://example.test/cat.jpg", LABELS)
    with pytest.raises(ValueError, match="no image"):
        client.classify([], LABELS)
    with pytest.raises(TypeError, match="list of strings"):
        client.classify(b"image", "cat")


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://a.test", "http://", "localhost"])
def test_an_address_without_http_is_refused(address: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="no address of a server"):
            kind(address)


def test_where_no_server_is_it_says_so() -> None:
    with Client("http://127.0.0.1:9", retries=0) as client:
        with pytest.raises(clients.ConnectionFailedError, match=r"http://127\.0\.0\.1:9"):
            client.info()
        assert not client.ready()


def test_the_key_is_not_shown(client: Client, url: str) -> None:
    assert KEY not in repr(client)
    assert url in repr(client)


def test_the_asynchronous_client_gives_the_same_answers(client: Client, photo: Path) -> None:
    data = photo.read_bytes()

    async def ask(url: str) -> tuple[Any, ...]:
        async with AsyncClient(url, api_key=KEY) as other:
            assert await other.ready()
            return (
                await other.classify([photo, data], LABELS, top_k=2, captions=4),
                await other.search(text="a red car in the rain"),
                await other.search(photo),
                await other.info(),
            )

    classified, by_text, by_image, info = asyncio.run(ask(str(client._http.base_url)))
    expected = client.classify([photo, data], LABELS, top_k=2, captions=4)
    assert [r.best.label for r in classified] == [r.best.label for r in expected]
    assert [r.filename for r in classified] == ["photo.png", "image-2"]
    assert by_text == client.search(text="a red car in the rain")
    assert [c.id for c in by_image] == [c.id for c in client.search(photo)]
    assert info == client.info()


def test_the_asynchronous_client_reads_files_off_the_loop(url: str) -> None:
    class File(io.BytesIO):
        read_in: threading.Thread | None = None

        def read(self, size: int | None = -1) -> bytes:
            self.read_in = threading.current_thread()
            return super().read(size)

    async def ask() -> threading.Thread | None:
        file = File(encode(gradient()))
        async with AsyncClient(url, api_key=KEY) as client:
            await client.classify(file, LABELS)
        return file.read_in

    assert asyncio.run(ask()) not in (None, threading.main_thread())


def test_threads_may_share_a_client(client: Client, photo: Path) -> None:
    best: list[str] = []

    def ask() -> None:
        best.append(client.classify(photo, LABELS)[0].best.label)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert best == [best[0]] * 4


SAME: dict[type[Any], type[Any]] = {
    clients.Prediction: schemas.PredictionOut,
    clients.Modality: schemas.ModalityOut,
    clients.Modalities: schemas.ModalitiesOut,
    clients.Caption: schemas.CaptionOut,
    clients.VotingCaption: schemas.VotingCaptionOut,
    clients.ImageResult: schemas.ImageResultOut,
    clients.Timings: schemas.TimingsOut,
    clients.Classification: schemas.ClassificationOut,
    clients.CaptionsFound: schemas.CaptionsFoundOut,
    clients.Model: schemas.ModelInfo,
    clients.Index: schemas.IndexInfo,
    clients.Limits: schemas.LimitsInfo,
    clients.Info: schemas.InfoOut,
}


@pytest.mark.parametrize("ours", SAME, ids=lambda kind: kind.__name__)
def test_results_have_the_fields_of_the_apis_answers(ours: type[Any]) -> None:
    theirs = field_types(SAME[ours])
    assert [field.name for field in fields(ours)] == list(theirs)
    hints = get_type_hints(ours)
    for name, kind in theirs.items():
        if kind in (str, int, float):
            assert hints[name] is kind, name


def field_types(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    names = kind.model_fields if issubclass(kind, BaseModel) else [f.name for f in fields(kind)]
    return {name: hints[name] for name in names}


def test_options_have_the_values_of_the_api() -> None:
    assert set(get_args(FusionName)) == {fusion.value for fusion in Fusion}
    assert set(get_args(NormalizationName)) == {x.value for x in get_args(ServingNormalization)}


def test_a_process_with_a_client_imports_neither_torch_nor_the_server() -> None:
    code = (
        "import sys, app.client; print(*{name.partition('.')[0] for name in sys.modules} "
        "& {'torch', 'fastapi', 'open_clip', 'faiss', 'numpy', 'PIL', 'uvicorn'})"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_serving_does_not_import_the_client() -> None:
    code = "import sys, app.main; print('app.client' in sys.modules)"
    done = subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
