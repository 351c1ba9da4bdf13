"""The files of a model by name: which they are, whether they are on disk, and how to get them.

Once all are on disk, loading asks no network: `offline` sees to it. What is missing is fetched by
`fetch` first, which fails at once and in words where the hub cannot be reached. No torch here.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from app.settings import HUB, LOCAL_DIR

CONFIG = "open_clip_config.json"

_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""In open_clip's order."""

_TOKENIZER = "tokenizer_config.json"
_TOKENIZER_PARTS = (
    "config.json",
    "tokenizer.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""What the tokenizers of transformers may consist of; each has some of these."""

_PATIENCE_S = 5.0
_SPARE_BYTES = 64 * 2**20

# The hub's client has changed its HTTP library before; its errors share that library's base class.
_TRANSPORT_ERROR = cast("type[Exception]", HfHubHTTPError.__bases__[0])


class ModelError(Exception):
    """The model cannot be loaded; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository of the hub.

    Attributes:
        repository: `ORG/NAME`.
        names: the first of these that there is.
        required: whether the model needs it; otherwise it is enough to know that there is none.
    """

    repository: str
    names: tuple[str, ...]
    required: bool = True

    def on_disk(self) -> Path | None:
        """Where it lies in the hub's cache; None where it does not."""
        for name in self.names:
            found = huggingface_hub.try_to_load_from_cache(self.repository, name)
            if isinstance(found, str):
                return Path(found)
        return None

    def known(self) -> bool:
        """Whether nothing needs to be asked: it is on disk, or known not to exist."""
        found = [huggingface_hub.try_to_load_from_cache(self.repository, x) for x in self.names]
        return any(isinstance(x, str) for x in found) or not (self.required or None in found)


def weights_file(hub: str) -> HubFile:
    """The weights that open_clip means by `ORG/NAME/`, or by `ORG/NAME/FILE`."""
    repository, _, name = hub.rpartition("/")
    if not name:
        return HubFile(repository, _WEIGHTS)
    safe = f"{Path(name).stem}.safetensors"
    return HubFile(repository, (safe, name))


def needed_files(name: str, pretrained: str | None) -> Iterator[HubFile]:
    """Every file of the hub that loading a model reads.

    What a configuration names is only known once that is on disk: fetch each file before the next
    is asked for.

    Args:
        name: `local-dir:DIR`, `hf-hub:ORG/NAME`, or an architecture.
        pretrained: open_clip's tag or a weights file, for an architecture.

    Raises:
        ModelError: this is no name of a repository.
    """
    if name.startswith(LOCAL_DIR):
        text = _text_config(Path(name.removeprefix(LOCAL_DIR)) / CONFIG)
        text.pop("hf_tokenizer_name", None)  # lies in the directory too
    elif name.startswith(HUB):
        repository = _checked(name.removeprefix(HUB))
        config = HubFile(repository, (CONFIG,))
        yield config
        path = config.on_disk()
        if path is None:
            return
        yield HubFile(repository, _WEIGHTS)
        text = _text_config(path)
    else:
        published = _published(name, pretrained)
        if published is None:
            return
        hub, text = published
        yield weights_file(hub)
    yield from _text_files(text)


def _checked(repository: str) -> str:
    try:
        huggingface_hub.try_to_load_from_cache(repository, CONFIG)
    except HFValidationError as error:
        raise ModelError(f"'{repository}' is no name of a repository. {error}") from None
    return repository


def _text_files(text: dict[str, Any]) -> Iterator[HubFile]:
    """Of a text tower or a tokenizer from transformers."""
    tower, tokenizer = text.get("hf_model_name"), text.get("hf_tokenizer_name")
    if tower:
        yield HubFile(tower, ("config.json",))
    if tokenizer:
        yield HubFile(tokenizer, (_TOKENIZER,))
        for part in _TOKENIZER_PARTS:
            yield HubFile(tokenizer, (part,), required=False)


def _text_config(path: Path) -> dict[str, Any]:
    """The text half of a configuration; empty where it is none, which the loader will say."""
    try:
        text = json.loads(path.read_bytes())["model_cfg"]["text_cfg"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return text if isinstance(text, dict) else {}


def _published(name: str, pretrained: str | None) -> tuple[str, dict[str, Any]] | None:
    """Where open_clip finds weights by a tag, and the text half of the architecture."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    architecture = name.replace("/", "-")
    weights = get_pretrained_cfg(architecture, pretrained) if pretrained else {}
    config = open_clip.get_model_config(architecture)
    if not weights.get("hf_hub") or config is None:
        return None
    return weights["hf_hub"], config["text_cfg"]


def is_on_disk(name: str, pretrained: str | None) -> bool:
    """Whether loading the model needs no network.

    Raises:
        ModelError: this is no name of a repository.
    """
    return all(file.known() for file in needed_files(name, pretrained))


def fetch(name: str, pretrained: str | None) -> None:
    """Download what is missing; asks nothing where all is on disk.

    Raises:
        ModelError: the hub cannot be reached, has no such model, or the disk is too small.
    """
    for file in needed_files(name, pretrained):
        if not file.known():
            try:
                _download(file)
            except GatedRepoError:
                raise ModelError(
                    f"{file.repository} asks for an account: accept its terms on the hub, then set "
                    "HF_TOKEN."
                ) from None
            except RepositoryNotFoundError:
                raise ModelError(
                    f"The hub has no repository {file.repository}, or it is private and HF_TOKEN "
                    "does not open it."
                ) from None
            except (_TRANSPORT_ERROR, OSError) as error:
                raise ModelError(_no_network(name, pretrained, error)) from error


def _download(file: HubFile) -> None:
    for name in file.names:
        url = huggingface_hub.hf_hub_url(file.repository, name)
        try:
            # Asked once and briefly: the download itself would try for minutes.
            size = huggingface_hub.get_hf_file_metadata(url, timeout=_PATIENCE_S).size
            _check_space(file.repository, size or 0)
            huggingface_hub.hf_hub_download(file.repository, name)
        except EntryNotFoundError:
            if not file.required:
                _remember_missing(file.repository, name)
            continue
        return
    if file.required:
        raise ModelError(f"{file.repository} has no {' or '.join(file.names)}.")


def _remember_missing(repository: str, name: str) -> None:
    """Let the cache note that there is no such file, so that nobody asks again."""
    try:
        huggingface_hub.hf_hub_download(repository, name)
    except EntryNotFoundError:
        return


def _check_space(repository: str, size: int) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if size + _SPARE_BYTES > free:
        raise ModelError(
            f"{repository} needs {size / 1e9:.1f} GB, and {cache} has {free / 1e9:.1f} GB left. "
            "Make room, or set HF_HOME to a larger disk."
        )


def _no_network(name: str, pretrained: str | None, error: Exception) -> str:
    get = f"xmore models get {name}" + (f"/{pretrained}" if pretrained else "")
    if isinstance(error, OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set"
    else:
        reason = f"{constants.ENDPOINT} cannot be reached ({error or type(error).__name__})"
    return (
        f"The model {name} is not on this machine, and {reason}. Where there is a network, run "
        f"`{get}`; then copy that machine's {constants.HF_HUB_CACHE} to the same place here."
    )


@contextmanager
def offline() -> Iterator[None]:
    """Let the hub's client answer from its cache alone while the context lasts.

    open_clip passes no such option on, and the environment variable is read only once.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
