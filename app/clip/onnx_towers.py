"""Run both towers in ONNX Runtime: the same float32 features, sooner."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.functional import cosine_similarity

from app.clip.trim import can_trim, encode_given, trim
from app.clip.weights import ModelError

try:
    import onnxruntime
    import onnxscript
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidGraph,
        InvalidProtobuf,
        NoSuchFile,
        RuntimeException,
    )
except ImportError as error:
    raise ModelError(
        "XMORE_ENGINE=onnx needs the extra `onnx`: pip install 'xmore[onnx]', or set "
        f"XMORE_ENGINE=torch ({error})"
    ) from error

Encode = Callable[[Tensor], Tensor]

LEAST_COSINE = 0.9999
"""Between features of torch and of ONNX Runtime; both compute in float32."""

_FORMAT = 1
_EXAMPLE = ["a photo of a cat.", "a dog"]
_TRIAL = ["a photo of a red bicycle, leaning against a brick wall.", "a", "two birds"]

_SESSION_ERRORS = (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    RuntimeException,
)


@dataclass(frozen=True, slots=True)
class Tower:
    """What is exported, and what it is tried on.

    Attributes:
        name: `image` or `text`.
        encode: the function in torch.
        example: an input of two rows to trace the function with.
        trial: inputs of other sizes, on which torch and ONNX Runtime must agree.
        dynamic: dimensions of the input that vary.
    """

    name: str
    encode: Encode
    example: Tensor
    trial: Tensor
    dynamic: tuple[int, ...]


class _Exportable(nn.Module):
    def __init__(self, network: nn.Module, encode: Encode) -> None:
        super().__init__()
        self.network = network
        self._encode = encode

    def forward(self, x: Tensor) -> Tensor:
        return self._encode(x)


def onnx_towers(
    network: Any, tokenizer: Callable[..., Tensor], size: tuple[int, int], key: str, cache: Path
) -> tuple[Encode, Encode]:
    """The image tower and the text tower of a network, in ONNX Runtime.

    They are exported once and kept: the export takes much longer than loading what it wrote.
    Threads are as many as torch has now.

    Args:
        network: an open_clip model in eval mode, float32.
        tokenizer: texts to token ids, (n, context) int64.
        size: height and width of a preprocessed image.
        key: what tells this network's weights from others'.
        cache: directory of exports.

    Returns:
        Images, (n, 3, H, W) float32, to features (n, d) float32; and token ids, (n, context)
        int64, to features (n, d) float32.

    Raises:
        ModelError: the network cannot be exported, or answers otherwise than in torch.
    """
    trimming = can_trim(network)
    cut: Encode = trim if trimming else lambda tokens: tokens
    towers = (
        Tower("image", network.encode_image, _noise(2, size), _noise(3, size), (0,)),
        Tower(
            "text",
            partial(encode_given, network) if trimming else network.encode_text,
            cut(tokenizer(_EXAMPLE)),
            cut(tokenizer(_TRIAL)),
            (0, 1) if trimming else (0,),
        ),
    )
    directory = cache.expanduser() / _entry(network, key)
    if not directory.is_dir():
        _export(network, towers, directory)
    image, text = (_open(tower, directory) for tower in towers)
    return image, lambda tokens: text(cut(tokens))


def _entry(network: nn.Module, key: str) -> str:
    """A name that changes with the weights, the layers, and what exports them."""
    parts = [_FORMAT, key, repr(network), torch.__version__, onnxscript.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _export(network: nn.Module, towers: tuple[Tower, ...], directory: Path) -> None:
    """Write the towers beside their place, then move them there in one step."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=directory.parent) as temporary:
            written = Path(temporary) / directory.name
            written.mkdir()
            for tower in towers:
                _write(network, tower, written / f"{tower.name}.onnx")
            _move(written, directory)
    except OSError as error:
        raise ModelError(
            f"XMORE_ENGINE=onnx keeps the exported model in {directory.parent}, which cannot be "
            f"written: set XMORE_ENGINE_CACHE to another directory ({error})"
        ) from error


def _move(written: Path, directory: Path) -> None:
    try:
        written.rename(directory)
    except OSError:
        # Another process may have exported the same network meanwhile.
        if not directory.is_dir():
            raise


def _write(network: nn.Module, tower: Tower, path: Path) -> None:
    dynamic: Mapping[int, Any] = dict.fromkeys(tower.dynamic, Dim.DYNAMIC)
    try:
        with torch.inference_mode(mode=False), _traceable_attention(), warnings.catch_warnings():
            # The exporter warns about the innards of torch, of which nobody here has a say.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Exportable(network, tower.encode).eval(),
                (tower.example,),
                dynamo=True,
                dynamic_shapes=(dynamic,),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(
            f"The {tower.name} tower cannot be exported for XMORE_ENGINE=onnx: set "
            f"XMORE_ENGINE=torch ({type(error).__name__})"
        ) from error
    if program is None:
        raise TypeError("the exporter returned nothing")
    # In a file of their own, the weights may exceed the 2 GiB that one protobuf message holds.
    program.save(path, external_data=True)


@contextmanager
def _traceable_attention() -> Iterator[None]:
    """Attention in plain operators: its fused form has no counterpart in ONNX."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(value=False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(value=enabled)


def _open(tower: Tower, directory: Path) -> Encode:
    """The tower as written, after a trial of whether it answers like torch."""
    advice = f"remove {directory} and start again, or set XMORE_ENGINE=torch"
    try:
        encode = partial(onnx_run, onnx_session(directory / f"{tower.name}.onnx"))
        found = encode(tower.trial)
    except _SESSION_ERRORS as error:
        raise ModelError(
            f"ONNX Runtime cannot run the exported {tower.name} tower: {advice} "
            f"({type(error).__name__})"
        ) from error
    with torch.inference_mode():
        expected = tower.encode(tower.trial)
    least = float(cosine_similarity(found, expected).min()) if found.shape == expected.shape else 0
    if not least >= LEAST_COSINE:
        raise ModelError(
            f"The exported {tower.name} tower answers otherwise than in torch (cosine "
            f"{least:.4f}, and {LEAST_COSINE} is needed): {advice}"
        )
    return encode


def onnx_session(path: Path) -> Any:
    """An exported tower, with as many threads as torch has now."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Idle threads that spin would take the cores from the decoding of the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def onnx_run(session: Any, x: Tensor) -> Tensor:
    """The features that a session answers to the input x."""
    (name,) = (given.name for given in session.get_inputs())
    (features,) = session.run(None, {name: x.contiguous().numpy()})
    return torch.from_numpy(features)


def _noise(count: int, size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 3, *size, generator=generator)
