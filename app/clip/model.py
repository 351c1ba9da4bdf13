"""Load a CLIP model with open_clip and encode images and texts with it."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import normalize

from app.clip.fold import fold_batch_norm
from app.clip.padding import turn_same_padding
from app.clip.precision import choose_device, choose_dtype
from app.clip.preprocess import Preprocess, as_open_clip
from app.clip.tokens import Tokenizer
from app.clip.trim import EncodeText, trimmed_encode_text
from app.clip.weights import ModelError, fetch, offline
from app.settings import HUB, LOCAL_DIR, Device, InferenceEngine, Precision, Settings

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]

_TEXT_BATCH = 64

_LOAD_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    ImportError,
    SafetensorError,
    UnpicklingError,
)


@dataclass(frozen=True, slots=True)
class ClipModel:
    """A CLIP model ready for inference.

    Attributes:
        name: short name for answers.
        fingerprint: SHA-256 over the float32 weights, hex.
        embed_dim: d.
        logit_scale: s = exp(logit_scale).
        dtype: number format of weights and activations.
        device: where the weights are.
        engine: what runs the towers.
        preprocess: an RGB image to what `encode_images` reads, as open_clip does for this model.
        network: the towers in torch; without weights where another engine runs them.
        encode_image: images (n, 3, H, W) of `dtype` to features (n, d).
        encode_text: token ids (n, context) to features, over as few tokens as the texts need.
        tokenizer: texts to token ids.
    """

    name: str
    fingerprint: str
    embed_dim: int
    logit_scale: float
    dtype: torch.dtype
    device: torch.device
    engine: InferenceEngine
    preprocess: Preprocess
    network: nn.Module
    encode_image: Callable[[Tensor], Tensor]
    encode_text: EncodeText
    tokenizer: Tokenizer

    def pixels(self, image: Image.Image) -> Tensor:
        """An RGB image to what `encode_images` reads."""
        return self.preprocess.pixels(image)

    @torch.inference_mode()
    def encode_images(self, pixels: Sequence[Tensor]) -> FloatArray:
        """Images as `pixels` makes them, n of them, to unit-norm embeddings (n, d) float32."""
        batch = self.preprocess.normalize(self._there(torch.stack(list(pixels))))
        return self._unit_norm(self.encode_image(batch.to(self.dtype)))

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Texts to unit-norm embeddings (n, d) float32; what exceeds the context is cut off."""
        out = np.empty((len(texts), self.embed_dim), np.float32)
        # Texts of like length share a batch, which is as long as its longest.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), _TEXT_BATCH):
            rows = order[start : start + _TEXT_BATCH]
            tokens = self.tokenizer([texts[i] for i in rows])
            out[rows] = self._unit_norm(self.encode_text(self._there(tokens)))
        return out

    def cut_off(self, texts: Sequence[str]) -> list[bool]:
        """Which texts are longer than the context, so that `encode_texts` drops their end."""
        return self.tokenizer.cut_off(texts)

    def _there(self, batch: Tensor) -> Tensor:
        """A batch on the model's device."""
        if self.device.type == "cpu":
            return batch
        return batch.pin_memory().to(self.device, non_blocking=True)

    @staticmethod
    def _unit_norm(features: Tensor) -> FloatArray:
        out: FloatArray = normalize(features.float(), dim=-1).cpu().numpy()
        return out


def load_model(
    name: str,
    pretrained: str | None,
    precision: Precision,
    device: Device = Device.CPU,
    onnx_cache: Path | None = None,
) -> ClipModel:
    """Load a model by open_clip's own naming; without any request where its files are on disk.

    Args:
        name: `local-dir:DIR`, `hf-hub:ORG/NAME`, or an architecture.
        pretrained: weights for an architecture.
        precision: see `choose_dtype`.
        device: see `choose_device`.
        onnx_cache: where exported towers are kept, which ONNX Runtime then runs, on the CPU and in
            float32 whatever else is asked for; None: torch runs them.

    Raises:
        ModelError: there is no such model, its files cannot be read or downloaded, there is no
            such device, or ONNX Runtime cannot run it.
    """
    if onnx_cache:
        device, precision = Device.CPU, Precision.FP32
    place = choose_device(device)
    if place is None:
        raise ModelError("XMORE_DEVICE is cuda, but PyTorch finds no GPU that it can use.")
    dtype = choose_dtype(precision, place)
    fetch(name, pretrained)
    try:
        with offline():
            network, transform = open_clip.create_model_from_pretrained(
                name, pretrained=pretrained, force_quick_gelu=_wants_quick_gelu(name, pretrained)
            )
            tokenizer = open_clip.get_tokenizer(name)
    except _LOAD_ERRORS as error:
        raise ModelError(_load_advice(name, pretrained, error)) from error
    network.eval().requires_grad_(False)
    fingerprint = weights_fingerprint(network)
    embed_dim = _embed_dim(network)
    logit_scale = float(network.logit_scale.float().exp())
    size = network.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    network.visual.to(memory_format=torch.channels_last)
    example = _noise(3, height, width)
    network.visual = fold_batch_norm(network.visual, example)
    if not onnx_cache:
        network.visual = turn_same_padding(network.visual, example)
    network.to(place, dtype)
    encode_image, encode_text = network.encode_image, trimmed_encode_text(network)
    if onnx_cache:
        from app.clip.onnx_towers import onnx_towers

        encode_image, encode_text = onnx_towers(
            network, tokenizer, (height, width), fingerprint, onnx_cache
        )
        # ONNX Runtime has its own copy of the weights.
        network.to("meta")
    model = ClipModel(
        name=short_name(name, pretrained),
        fingerprint=fingerprint,
        embed_dim=embed_dim,
        logit_scale=logit_scale,
        dtype=dtype,
        device=place,
        engine=InferenceEngine.ONNX if onnx_cache else InferenceEngine.TORCH,
        preprocess=as_open_clip(transform),
        network=network,
        encode_image=encode_image,
        encode_text=encode_text,
        tokenizer=Tokenizer(tokenizer),
    )
    # The first pass plans memory and kernels; nobody's request should wait for that.
    model.encode_images([model.pixels(Image.new("RGB", (width, height)))])
    model.encode_texts(["a photo"])
    return model


def load_chosen_model(settings: Settings) -> ClipModel:
    """The model that the settings name, where and how they say.

    Raises:
        ModelError: see `load_model`.
    """
    return load_model(
        settings.model,
        settings.pretrained,
        settings.precision,
        settings.device,
        settings.onnx_cache,
    )


def _wants_quick_gelu(name: str, pretrained: str | None) -> bool:
    """Whether weights were trained with another activation than the architecture's usual one.

    open_clip only warns of it, and the model would answer worse.
    """
    known = get_pretrained_cfg(name.replace("/", "-"), pretrained) if pretrained else {}
    return bool(known.get("quick_gelu"))


def short_name(name: str, pretrained: str | None) -> str:
    """The last part of a directory or hub name, or architecture and weights."""
    if name.startswith(LOCAL_DIR):
        return Path(name.removeprefix(LOCAL_DIR)).resolve().name
    if name.startswith(HUB):
        return name.removeprefix(HUB).rpartition("/")[2]
    return f"{name}/{Path(str(pretrained)).stem}"


def weights_fingerprint(network: nn.Module) -> str:
    """SHA-256 over names, shapes and float32 values of all weights.

    Taken before the precision is changed, so that it is the same on every machine.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(
            memoryview(tensor.detach().float().contiguous().numpy().reshape(-1)).cast("B")
        )
    return digest.hexdigest()


def _noise(*shape: int) -> Tensor:
    """One image of noise, the same every time; unlike zeros, it exercises every weight."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def _embed_dim(network: nn.Module) -> int:
    with torch.inference_mode():
        tokens = torch.zeros(1, int(getattr(network, "context_length", 77)), dtype=torch.long)
        encode: Any = network.encode_text
        return int(encode(tokens).shape[-1])


def _load_advice(name: str, pretrained: str | None, error: Exception) -> str:
    if isinstance(error, ImportError):
        hint = "It needs a package that is not installed; `pip install transformers` may help."
    elif name.startswith(LOCAL_DIR):
        hint = "The directory needs open_clip_config.json and open_clip_model.safetensors."
    elif name.startswith(HUB):
        hint = "Is it a model in open_clip's format?"
    else:
        hint = f"Does `xmore models {name}` list the weights '{pretrained}'?"
    return f"The model {name} cannot be loaded. {hint} ({type(error).__name__}: {error})"
