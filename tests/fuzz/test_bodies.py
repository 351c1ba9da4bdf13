"""Made-up forms, JSON and damaged image files: each is answered in time, none with a 5xx."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.conftest import fuzzing
from tests.photos import encode, gradient

# Pillow warns of what is wrong with a file and goes on.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

DOCUMENTED = {200, 400, 413, 415, 422}

FIELDS = ["image", "labels", "template", "captions", "fusion", "normalization", "top_k"]


def files() -> dict[str, bytes]:
    """One small file of each format that is read."""
    picture = gradient(24, 16)
    exif = Image.Exif()
    exif[0x0112] = 6
    lossy = {"exif": exif, "quality": 80}
    grey16 = Image.fromarray(np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 150)
    frames = {"save_all": True, "append_images": [picture.rotate(90)]}
    return {
        "jpeg": encode(picture, "JPEG", **lossy),
        "progressive": encode(picture, "JPEG", progressive=True),
        "cmyk": encode(picture.convert("CMYK"), "JPEG"),
        "png": encode(picture, exif=exif),
        "palette": encode(picture.quantize(16), transparency=3),
        "grey16": encode(grey16),
        "webp": encode(picture, "WEBP", **lossy, **frames),
        "gif": encode(picture.quantize(16), "GIF", **frames),
        "bmp": encode(picture, "BMP"),
        "tiff": encode(picture, "TIFF", **frames),
        "tiff-lzw": encode(picture, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encode(picture, "TIFF", compression="jpeg"),
        "avif": encode(picture, "AVIF", **lossy),
        "heif": encode(picture, "HEIF", quality=80),
        "ppm": encode(picture, "PPM"),
    }


FILES = files()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """An image file with bytes changed, cut out, repeated or put in."""
    data = bytearray(FILES[draw(st.sampled_from(sorted(FILES)))])
    for _ in range(draw(st.integers(1, 8))):
        # Most of what steers a decoder stands at the beginning.
        last = draw(st.sampled_from([min(64, len(data)), len(data)]))
        at = draw(st.integers(0, last))
        piece = draw(st.binary(min_size=1, max_size=8))
        match draw(st.sampled_from(["change", "cut", "insert", "repeat"])):
            case "change":
                data[at : at + len(piece)] = piece
            case "cut":
                del data[at : at + draw(st.integers(1, 200))]
            case "insert":
                data[at:at] = piece
            case "repeat":
                data[at:at] = data[at : at + 50]
    return bytes(data)


def texts(max_size: int = 60) -> st.SearchStrategy[bytes]:
    """Text in UTF-8 and bytes in no encoding."""
    return st.one_of(
        st.text(max_size=max_size).map(lambda text: text.encode()), st.binary(max_size=max_size)
    )


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """A form as no client would send it, with the boundary `b`."""
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        name = draw(st.one_of(st.sampled_from([field.encode() for field in FIELDS]), texts(10)))
        filename = draw(st.one_of(st.none(), st.just(b"a.png"), texts(10)))
        disposition = b'Content-Disposition: form-data; name="%b"' % name
        if filename is not None:
            disposition += b'; filename="%b"' % filename
        extra = draw(
            st.sampled_from([b"", b"\r\nContent-Type: image/png", b"\r\nX: y", b"\r\nbad"])
        )
        value = draw(
            st.one_of(
                texts(),
                st.sampled_from([b"cat", b'["cat", "dog"]', b"[[]]", b"{}", b"a {}", b"5", b"-1"]),
                st.sampled_from(sorted(FILES.values())),
                damaged_files(),
            )
        )
        parts.append(b"--b\r\n%b%b\r\n\r\n%b\r\n" % (disposition, extra, value))
    body = b"".join([*parts, draw(st.sampled_from([b"--b--\r\n", b"--b--", b"--b", b""]))])
    cut = draw(st.one_of(st.none(), st.integers(0, len(body))))
    return body if cut is None else body[:cut]


def assert_well_answered(response: httpx.Response) -> None:
    assert response.status_code in DOCUMENTED, response.text
    if response.status_code != 200:
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == response.status_code
        assert "Traceback" not in problem["detail"]


@given(damaged_files())
@fuzzing
def test_damaged_images_are_answered_or_refused(served: httpx.Client, data: bytes) -> None:
    response = served.post(
        "/v1/classify", files={"image": ("a.png", data)}, data={"labels": ["cat", "dog"]}
    )
    assert_well_answered(response)
    if response.status_code == 200:
        (result,) = response.json()["results"]
        assert abs(sum(p["probability"] for p in result["predictions"]) - 1) < 1e-4


@given(forms(), st.sampled_from([b"", b"; charset=utf-16", b"; charset=unicode_escape"]))
@fuzzing
def test_made_up_forms_are_answered_or_refused(
    served: httpx.Client, body: bytes, charset: bytes
) -> None:
    content_type = b"multipart/form-data; boundary=b" + charset
    headers = {"content-type": content_type.decode()}
    assert_well_answered(served.post("/v1/classify", content=body, headers=headers))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def tasks(draw: st.DrawFn) -> bytes:
    """A request of the Hugging Face task, nearly right or not at all."""
    image = base64.b64encode(draw(st.sampled_from(sorted(FILES.values())))).decode()
    parameters = draw(
        st.one_of(
            json_values,
            st.fixed_dictionaries(
                {"candidate_labels": st.one_of(json_values, st.lists(st.text(max_size=20)))},
                optional={"hypothesis_template": json_values, "other": json_values},
            ),
        )
    )
    request = {"inputs": draw(st.one_of(st.just(image), json_values)), "parameters": parameters}
    body = json.dumps(draw(st.one_of(st.just(request), json_values))).encode()
    return draw(st.one_of(st.just(body), st.just(body[: len(body) // 2]), st.binary(max_size=50)))


@given(tasks())
@fuzzing
def test_made_up_json_is_answered_or_refused(served: httpx.Client, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    url = "/v1/zero-shot-image-classification"
    assert_well_answered(served.post(url, content=body, headers=headers))


def test_the_next_good_request_succeeds(served: httpx.Client) -> None:
    for name, data in FILES.items():
        assert Image.open(io.BytesIO(data)).size
        response = served.post(
            "/v1/classify", files={"image": (name, data)}, data={"labels": ["cat", "dog"]}
        )
        assert response.status_code == 200, name
