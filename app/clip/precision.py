"""Which number format the CPU at hand runs fastest."""

import torch

from app.settings import Precision


def choose_precision(wanted: Precision) -> torch.dtype:
    """The dtype of weights and activations.

    `auto` takes bfloat16 only where the CPU multiplies it in hardware (AMX or AVX512-BF16);
    elsewhere it is emulated and many times slower than float32.
    """
    if wanted is Precision.AUTO:
        capabilities = torch.cpu.get_capabilities()
        fast = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        return torch.bfloat16 if fast else torch.float32
    return {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16}[wanted]


def precision_name(dtype: torch.dtype) -> str:
    """`fp32` or `bf16`."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
