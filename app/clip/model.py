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
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import normalize

from app.clip.aspect import within_reason
from app.clip.fold import fold_batch_norm
from app.clip.precision import choose_precision
from app.clip.trim import EncodeText, trimmed_encode_text
from app.settings import HUB, LOCAL_DIR, Precision

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]

_TEXT_BATCH = 64

_LOAD_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    SafetensorError,
    UnpicklingError,
)


class ModelError(Exception):
    """The model cannot be loaded; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ClipModel:
    """A CLIP model ready for inference.

    Attributes:
        name: short name for answers.
        fingerprint: SHA-256 over the float32 weights, hex.
        embed_dim: d.
        logit_scale: s = exp(logit_scale).
        dtype: number format of weights and activations.
        preprocess: an RGB image to a tensor (3, H, W) float32, as open_clip does for this model.
        encode_text: token ids (n, context) to features, over as few tokens as the texts need.
    """

    name: str
    fingerprint: str
    embed_dim: int
    logit_scale: float
    dtype: torch.dtype
    preprocess: Callable[[Image.Image], Tensor]
    network: nn.Module
    encode_text: EncodeText
    tokenizer: Callable[..., Tensor]

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Tensor]) -> FloatArray:
        """Preprocessed images, n of (3, H, W), to unit-norm embeddings (n, d) float32."""
        batch = torch.stack(list(images)).to(self.dtype, memory_format=torch.channels_last)
        encode: Any = self.network.encode_image
        out: FloatArray = normalize(encode(batch).float(), dim=-1).numpy()
        return out

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Texts to unit-norm embeddings (n, d) float32; what exceeds the context is cut off."""
        out = np.empty((len(texts), self.embed_dim), np.float32)
        for start in range(0, len(texts), _TEXT_BATCH):
            tokens = self.tokenizer(list(texts[start : start + _TEXT_BATCH]))
            features = self.encode_text(tokens).float()
            out[start : start + _TEXT_BATCH] = normalize(features, dim=-1).numpy()
        return out

    def cut_off(self, texts: Sequence[str]) -> list[bool]:
        """Which texts are longer than the context, so that `encode_texts` drops their end."""
        length = int(self.tokenizer([""]).shape[1])
        padding = self.tokenizer([""], context_length=length + 1)[0, -1]
        cut = [False] * len(texts)
        for i, text in enumerate(texts):
            # A token stands for at least one byte, and two tokens mark the ends.
            if len(text.encode()) > length - 2:
                tokens = self.tokenizer([text])[0]
                more = self.tokenizer([text], context_length=length + 1)[0]
                cut[i] = not torch.equal(more[:-1], tokens) or bool(more[-1] != padding)
        return cut


def load_model(name: str, pretrained: str | None, precision: Precision) -> ClipModel:
    """Load a model by open_clip's own naming.

    Args:
        name: `local-dir:DIR`, `hf-hub:ORG/NAME`, or an architecture.
        pretrained: weights for an architecture.
        precision: see `choose_precision`.

    Raises:
        ModelError: there is no such model, or its files cannot be read or downloaded.
    """
    dtype = choose_precision(precision)
    try:
        network, preprocess = open_clip.create_model_from_pretrained(name, pretrained=pretrained)
        tokenizer = open_clip.get_tokenizer(name)
    except _LOAD_ERRORS as error:
        raise ModelError(_load_advice(name, pretrained, error)) from error
    network.eval().requires_grad_(False)
    fingerprint = weights_fingerprint(network)
    size = network.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    network.visual.to(memory_format=torch.channels_last)
    network.visual = fold_batch_norm(network.visual, _noise(3, height, width))
    network.to(dtype)
    model = ClipModel(
        name=short_name(name, pretrained),
        fingerprint=fingerprint,
        embed_dim=_embed_dim(network),
        logit_scale=float(network.logit_scale.float().exp()),
        dtype=dtype,
        preprocess=within_reason(preprocess),
        network=network,
        encode_text=trimmed_encode_text(network),
        tokenizer=tokenizer,
    )
    # The first pass plans memory and kernels; nobody's request should wait for that.
    model.encode_images([torch.zeros(3, height, width)])
    model.encode_texts(["a photo"])
    return model


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
    if name.startswith(LOCAL_DIR):
        hint = "The directory needs open_clip_config.json and open_clip_model.safetensors."
    elif name.startswith(HUB):
        hint = "Is the name right, and can this machine reach the hub?"
    else:
        hint = f"Does open_clip list the weights '{pretrained}' for it, and can they be downloaded?"
    return f"The model {name} cannot be loaded. {hint} ({type(error).__name__}: {error})"
