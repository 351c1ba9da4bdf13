"""Settings come from `XMORE_*`, and wrong ones are refused with words."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.index.place import MilvusAddress
from app.settings import InferenceEngine, LogLevel, Precision, Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("XMORE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refused(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings(**values)
    return str(caught.value)


def test_defaults_need_no_environment() -> None:
    settings = Settings()
    assert settings.model.startswith("local-dir:")
    assert settings.model.endswith("mini")
    assert settings.pretrained is None
    ((name, directory),) = settings.collections
    assert name is None
    assert isinstance(directory, Path)
    assert directory.parts[-2:] == ("index_data", "default")
    assert settings.verify_index
    assert settings.precision is Precision.AUTO
    assert settings.engine is InferenceEngine.TORCH
    assert settings.onnx_cache is None
    assert settings.threads == 0
    assert settings.host == "127.0.0.1"
    assert settings.port == 8000
    assert settings.label_cache_size == 20_000


def test_defaults_do_not_depend_on_the_working_directory(tmp_path: Path) -> None:
    settings = Settings()
    ((_, directory),) = settings.collections
    assert isinstance(directory, Path)
    assert directory.is_absolute()
    assert Path(settings.model.removeprefix("local-dir:")).is_absolute()
    assert tmp_path not in directory.parents


def test_a_body_has_room_for_all_images_at_their_largest() -> None:
    settings = Settings(max_images=3, max_image_bytes=1000)
    assert settings.max_body_bytes > 3 * 1000


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("model", "hf-hub:org/name", "hf-hub:org/name"),
        ("index", "some/where", "some/where"),
        ("index", "a=some/where,b=else", "a=some/where,b=else"),
        ("verify_index", "false", False),
        ("precision", "bf16", Precision.BF16),
        ("engine", "onnx", InferenceEngine.ONNX),
        ("engine_cache", "some/where", Path("some/where")),
        ("threads", "3", 3),
        ("label_cache_size", "0", 0),
        ("host", "0.0.0.0", "0.0.0.0"),  # noqa: S104
        ("port", "0", 0),
        ("max_image_bytes", "1", 1),
        ("max_pixels", "12", 12),
        ("max_images", "2", 2),
        ("max_labels", "5", 5),
        ("max_label_length", "7", 7),
        ("max_templates", "9", 9),
        ("max_queue", "3", 3),
        ("max_queue_bytes", "1000", 1000),
        ("request_timeout_s", "0.5", 0.5),
        ("body_timeout_s", "2", 2.0),
        ("stuck_after_s", "3", 3.0),
        ("drain_timeout_s", "0", 0.0),
        ("api_keys", f"{'a' * 16}, {'b' * 16},", [SecretStr("a" * 16), SecretStr("b" * 16)]),
        ("api_keys", "", []),
        ("cors_origins", "https://a.org,https://b.org", ["https://a.org", "https://b.org"]),
        ("log_level", "debug", LogLevel.DEBUG),
    ],
)
def test_each_setting_is_an_environment_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"XMORE_{name.upper()}", text)
    assert getattr(Settings(), name) == value


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMORE_PORT", "")
    monkeypatch.setenv("XMORE_PRETRAINED", "")
    settings = Settings()
    assert settings.port == 8000
    assert settings.pretrained is None


def test_variables_without_the_prefix_are_others_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    monkeypatch.setenv("XMORE_NO_SUCH_SETTING", "1")
    assert Settings().port == 8000


def test_a_dotenv_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("XMORE_PORT=1234\nXMORE_THREADS=2\nOTHER=1\n")
    monkeypatch.setenv("XMORE_THREADS", "3")
    settings = Settings()
    assert (settings.port, settings.threads) == (1234, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", -1),
        ("threads", 1025),
        ("threads", "many"),
        ("label_cache_size", -1),
        ("port", -1),
        ("port", 65_536),
        ("max_image_bytes", 0),
        ("max_pixels", 0),
        ("max_images", 0),
        ("max_images", 1025),
        ("max_labels", 0),
        ("max_label_length", 0),
        ("max_templates", 0),
        ("precision", "fp8"),
        ("engine", "tensorrt"),
        ("index", ""),
        ("index", "a=,b=x"),
        ("index", "a=x,y"),
        ("index", "a=x,a=y"),
        ("index", "=x"),
        ("max_queue", 0),
        ("max_queue_bytes", 0),
        ("request_timeout_s", 0),
        ("body_timeout_s", 0),
        ("stuck_after_s", 0),
        ("drain_timeout_s", -1),
        ("api_keys", ["short"]),
        ("log_level", "loud"),
    ],
)
def test_a_value_out_of_range_is_refused_and_named(name: str, value: object) -> None:
    assert name in refused(**{name: value})


def test_an_architecture_without_weights_is_refused_with_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refused(model="ViT-B-32")
    assert "XMORE_MODEL=ViT-B-32" in said
    assert "XMORE_PRETRAINED" in said
    monkeypatch.setenv("XMORE_MODEL", "ViT-B-32")
    monkeypatch.setenv("XMORE_PRETRAINED", "")
    assert "XMORE_PRETRAINED" in refused()


def test_an_architecture_with_weights_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMORE_MODEL", "ViT-B-32")
    monkeypatch.setenv("XMORE_PRETRAINED", "openai")
    settings = Settings()
    assert (settings.model, settings.pretrained) == ("ViT-B-32", "openai")


@pytest.mark.parametrize(
    ("index", "collections"),
    [
        ("some/where", [(None, Path("some/where"))]),
        ("a, b", [(None, Path("a, b"))]),
        ("only=some/where", [("only", Path("some/where"))]),
        ("a=x, b = y z", [("a", Path("x")), ("b", Path("y z"))]),
        (Path("some/where"), [(None, Path("some/where"))]),
    ],
)
def test_collections_are_one_directory_or_several_by_name(
    index: Any, collections: list[tuple[str | None, Path]]
) -> None:
    assert Settings(index=index).collections == collections


def test_a_collection_may_lie_in_milvus() -> None:
    settings = Settings(index="near=some/where,far=milvus://there:7/photos")
    (_, near), (_, far) = settings.collections
    assert near == Path("some/where")
    assert far == MilvusAddress("milvus://there:7/photos", "http://there:7", "photos")
    assert "it looks like milvus://HOST:PORT/NAME" in refused(index="milvus://there")
    assert "it looks like milvus://HOST:PORT/NAME" in refused(index="a=x,b=milvus:photos")


def test_keys_are_not_shown() -> None:
    settings = Settings(api_keys=["0123456789abcdef"], milvus_token="me:open sesame")  # noqa: S106 - made up
    assert "0123456789abcdef" not in repr(settings)
    assert "sesame" not in repr(settings)
    assert settings.milvus.token == "me:open sesame"  # noqa: S105 - made up
    assert "sesame" not in repr(settings.milvus)


def test_metrics_cannot_be_guarded_without_keys() -> None:
    assert "XMORE_API_KEYS" in refused(metrics_need_key=True)
    assert Settings(metrics_need_key=True, api_keys=["k" * 16]).metrics_need_key


@pytest.mark.parametrize(
    ("name", "value"), [("precision", "bf16"), ("precision", "fp16"), ("device", "cuda")]
)
def test_onnx_is_not_asked_for_what_it_cannot_do(name: str, value: str) -> None:
    message = refused(**{"engine": "onnx", name: value})
    assert "XMORE_ENGINE" in message
    assert f"XMORE_{name.upper()}" in message


def test_exports_are_kept_where_onnx_runs_the_model(tmp_path: Path) -> None:
    assert Settings(engine="onnx", engine_cache=tmp_path).onnx_cache == tmp_path
    assert Settings(engine="torch", engine_cache=tmp_path).onnx_cache is None
