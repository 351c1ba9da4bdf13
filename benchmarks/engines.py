"""`python -m benchmarks.engines`: how much faster ONNX Runtime runs the towers than torch.

Both take turns on the same input, so that a busy machine slows both. Printed is the median of the
ratios of neighbouring rounds with their quartiles (above 1: faster than torch in float32), and the
least cosine between the features. `dynamic int8` is ONNX Runtime with the weights of its matrix
products in 8 bits. With `--bf16` torch in bfloat16 takes part, which is many times slower where the
CPU has neither AMX nor AVX512-BF16.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

import open_clip
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity

from app.clip.model import ClipModel, load_model
from app.clip.onnx_towers import onnx_run, onnx_session
from app.clip.trim import trim
from app.settings import ROOT, Precision

MINI = "mini"
LABELS = ("cat", "golden retriever", "church", "garbage truck", "cassette player", "gas pump")
INT8 = "onnx, dynamic int8"
BF16 = "torch bf16"
LEAST_ROUNDS = 5

Run = Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Loaded:
    """One model in every engine, and the files of its export."""

    name: str
    torch: ClipModel
    bf16: ClipModel | None
    onnx: ClipModel
    export: Path


def load(name: str, folder: Path, *, bf16: bool) -> Loaded:
    """`mini`, or an architecture with random weights."""
    if name == MINI:
        source, weights = f"local-dir:{ROOT / 'models' / MINI}", None
    else:
        torch.manual_seed(0)
        source, weights = name, str(folder / f"{name}.pt")
        torch.save(open_clip.create_model(name).state_dict(), weights)
    cache = folder / f"{name}-onnx"
    return Loaded(
        name,
        load_model(source, weights, Precision.FP32),
        load_model(source, weights, Precision.BF16) if bf16 else None,
        load_model(source, weights, Precision.AUTO, onnx_cache=cache),
        next(cache.iterdir()),
    )


def image_runs(model: Loaded, batch: int) -> dict[str, Run]:
    """The image tower on the same images in every engine; torch in float32 comes first."""
    pixels = [model.torch.pixels(Image.effect_noise((640, 480), 64).convert("RGB"))] * batch
    x = model.torch.preprocess.normalize(torch.stack(pixels))
    runs: dict[str, Run] = {
        "torch": partial(model.torch.encode_image, x),
        "onnx": partial(model.onnx.encode_image, x),
    }
    if model.bf16:
        runs[BF16] = partial(model.bf16.encode_image, x.bfloat16())
    return runs


def text_runs(model: Loaded, batch: int) -> dict[str, Run]:
    """The text tower on the same labels in every engine; torch in float32 comes first."""
    prompts = [f"a photo of a {LABELS[i % len(LABELS)]}." for i in range(batch)]
    tokens = model.torch.tokenizer(prompts)
    small = model.export / "text-int8.onnx"
    if not small.exists():
        quantize_dynamic(
            model.export / "text.onnx", small, weight_type=QuantType.QInt8, per_channel=True
        )
    session = onnx_session(small)
    runs: dict[str, Run] = {
        "torch": partial(model.torch.encode_text, tokens),
        "onnx": partial(model.onnx.encode_text, tokens),
        INT8: lambda: onnx_run(session, trim(tokens)),
    }
    if model.bf16:
        runs[BF16] = partial(model.bf16.encode_text, tokens)
    return runs


@torch.inference_mode()
def compare(runs: dict[str, Run], seconds: float) -> dict[str, list[float]]:
    """Seconds of each round of each run, in turns, for about as long as asked."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = perf_counter() + seconds
    while perf_counter() < end or len(times["torch"]) < LEAST_ROUNDS:
        for name, run in runs.items():
            start = perf_counter()
            run()
            times[name].append(perf_counter() - start)
    return times


@torch.inference_mode()
def report(title: str, runs: dict[str, Run], seconds: float) -> None:
    """Print a table row for each run but the first."""
    exact = runs["torch"]().float()
    times = compare(runs, seconds)
    for name in list(runs)[1:]:
        ratios = [a / b for a, b in zip(times["torch"], times[name], strict=True)]
        low, _, high = quantiles(ratios, n=4)
        cosine = float(cosine_similarity(exact, runs[name]().float()).min())
        print(
            f"| {title} | {name} | {median(ratios):.2f} ({low:.2f} to {high:.2f}) | "
            f"{1000 * median(times['torch']):.1f} | {1000 * median(times[name]):.1f} | "
            f"{cosine:.6f} |",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=[MINI, "ViT-B-32", "ViT-B-16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="for each row")
    parser.add_argument("--bf16", action="store_true", help="torch in bfloat16 too")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    print("| tower, batch | engine | times torch (quartiles) | torch ms | ms | least cosine |")
    print("|---|---|---|---|---|---|")
    towers: dict[str, Callable[[Loaded, int], dict[str, Run]]]
    towers = {"image": image_runs, "text": text_runs}
    for name in chosen.models:
        with TemporaryDirectory() as folder:
            model = load(name, Path(folder), bf16=chosen.bf16)
            for tower, runs in towers.items():
                for batch in chosen.batches:
                    report(f"{name} {tower}, {batch}", runs(model, batch), chosen.seconds)


if __name__ == "__main__":
    main()
