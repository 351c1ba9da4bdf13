"""On which device the model runs, and which number format runs fastest there."""

import torch

from app.settings import Device, Precision

_DTYPES = {
    Precision.FP32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP16: torch.float16,
}


def choose_device(wanted: Device) -> torch.device | None:
    """The device; `auto` takes a GPU where there is one. None where the wanted one is missing."""
    has_gpu = wanted is not Device.CPU and torch.cuda.is_available()
    if wanted is Device.CUDA and not has_gpu:
        return None
    return torch.device("cuda" if has_gpu else "cpu")


def choose_dtype(wanted: Precision, device: torch.device) -> torch.dtype:
    """The dtype of weights and activations.

    `auto` takes float16 on a GPU, bfloat16 only where the CPU multiplies it in hardware (AMX or
    AVX512-BF16); elsewhere it is emulated and many times slower than float32.
    """
    if wanted is not Precision.AUTO:
        return _DTYPES[wanted]
    if device.type == "cuda":
        return torch.float16
    capabilities = torch.cpu.get_capabilities()
    fast = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def precision_name(dtype: torch.dtype) -> str:
    """`fp32`, `bf16` or `fp16`."""
    return next(str(name) for name, known in _DTYPES.items() if known is dtype)
