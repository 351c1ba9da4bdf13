"""The device and the number format are those that run fastest, or those asked for."""

import pytest
import torch

from app.clip.precision import choose_device, choose_dtype, precision_name
from app.settings import Device, Precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("wanted", "capabilities", "dtype"),
    [
        (Precision.AUTO, {}, torch.float32),
        (Precision.AUTO, {"avx512_f": True, "avx2": True}, torch.float32),
        (Precision.AUTO, {"amx_bf16": False, "avx512_bf16": False}, torch.float32),
        (Precision.AUTO, {"amx_bf16": True}, torch.bfloat16),
        (Precision.AUTO, {"avx512_bf16": True}, torch.bfloat16),
        (Precision.FP32, {"amx_bf16": True}, torch.float32),
        (Precision.BF16, {}, torch.bfloat16),
        (Precision.FP16, {}, torch.float16),
    ],
)
def test_bf16_is_taken_where_the_cpu_has_it_or_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    wanted: Precision,
    capabilities: dict[str, bool],
    dtype: torch.dtype,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_dtype(wanted, CPU) is dtype


def test_a_gpu_takes_fp16_unless_told_otherwise() -> None:
    assert choose_dtype(Precision.AUTO, CUDA) is torch.float16
    assert choose_dtype(Precision.FP32, CUDA) is torch.float32


@pytest.mark.parametrize(
    ("wanted", "has_gpu", "device"),
    [
        (Device.AUTO, False, CPU),
        (Device.AUTO, True, CUDA),
        (Device.CPU, True, CPU),
        (Device.CUDA, True, CUDA),
        (Device.CUDA, False, None),
    ],
)
def test_a_gpu_is_taken_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, wanted: Device, has_gpu: bool, device: torch.device | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert choose_device(wanted) == device


def test_precisions_have_names() -> None:
    names = [precision_name(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)]
    assert names == ["fp32", "bf16", "fp16"]
