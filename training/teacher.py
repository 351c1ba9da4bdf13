"""Step `teacher`: sentence embeddings of the chosen texts, which the text tower learns to match."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from training.config import EMBED_DIM
from training.sources import minilm_dir

_SHARD = 16_384
_BATCH = 256


class Teacher:
    """all-MiniLM-L6-v2: mean-pooled, unit-norm sentence embeddings of 384 dimensions."""

    def __init__(self) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(minilm_dir())
        self._model = AutoModel.from_pretrained(minilm_dir()).eval()

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> npt.NDArray[np.float16]:
        """Embed texts: (n, 384) float16. Batches are of similar length, padded to their longest."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = np.empty((len(texts), 384), np.float16)
        for start in range(0, len(texts), _BATCH):
            rows = order[start : start + _BATCH]
            batch = self._tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=64,
                return_tensors="pt",
            )
            hidden = self._model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
            out[rows] = pooled.half().numpy()
        return out

    def word_piece_embeddings(self) -> tuple[dict[str, int], torch.Tensor]:
        """The vocabulary and its input embeddings, (30522, 384)."""
        table: torch.Tensor = self._model.get_input_embeddings().weight.detach()
        return self._tokenizer.get_vocab(), table


class EmbeddingCache:
    """Texts and their teacher embeddings, on disk in shards; only new texts are ever embedded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def fill(self, texts: list[str]) -> None:
        """Embed the texts that no shard holds; a killed run loses at most one shard."""
        known = self._read()
        missing = sorted((t for t in texts if t not in known), key=len)
        teacher = Teacher()
        first = len(list(self._folder.glob("*.npz")))
        for number, start in enumerate(tqdm(range(0, len(missing), _SHARD), desc="teacher")):
            shard = missing[start : start + _SHARD]
            partial = self._folder / "partial.tmp"
            with partial.open("wb") as file:
                np.savez(file, texts=np.array(shard), embeddings=teacher.embed(shard))
            partial.rename(self._folder / f"{first + number:04d}.npz")

    def lookup(self, texts: list[str]) -> npt.NDArray[np.float16]:
        """Teacher embeddings of texts that were filled in, (n, 384) float16."""
        known = self._read()
        return np.stack([known[text] for text in texts])

    def _read(self) -> dict[str, npt.NDArray[np.float16]]:
        known: dict[str, npt.NDArray[np.float16]] = {}
        for path in sorted(self._folder.glob("*.npz")):
            with np.load(path) as shard:
                known.update(zip(shard["texts"].tolist(), shard["embeddings"], strict=True))
        return known


def joint_rotation() -> torch.Tensor:
    """The fixed matrix with orthonormal columns that takes 384 dimensions into the joint 512."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(EMBED_DIM, 384, generator=generator)
    orthonormal: torch.Tensor = torch.linalg.qr(matrix).Q
    return orthonormal
