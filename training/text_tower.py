"""Step `text`: teach open_clip's text transformer to place texts where the teacher does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, normalize
from tqdm import tqdm

from training.config import CONTEXT_LENGTH, EMBED_DIM, TEXT_CFG
from training.teacher import Teacher, joint_rotation

_BATCH = 512
_BUCKET = 50 * _BATCH
_TEMPERATURE = 0.05


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast the tower learns."""

    epochs: int = 3
    peak_lr: float = 1.5e-3
    warmup_steps: int = 200
    checkpoint_every: int = 200


def build_text_tower() -> TextTransformer:
    """The text half of `models/mini`, random; its keys are those of open_clip's CLIP."""
    torch.manual_seed(0)
    return TextTransformer(
        context_length=CONTEXT_LENGTH,
        vocab_size=TEXT_CFG["vocab_size"],
        width=TEXT_CFG["width"],
        heads=TEXT_CFG["heads"],
        layers=TEXT_CFG["layers"],
        output_dim=EMBED_DIM,
    )


def start_from_word_pieces(tower: TextTransformer, teacher: Teacher) -> None:
    """Start each BPE token's embedding from the teacher's own word pieces for the same letters.

    The teacher's 384 dimensions are reduced to the tower's width by their principal components and
    scaled to the tower's usual spread, which spares the first epoch the learning of word senses.
    """
    vocabulary, table = teacher.word_piece_embeddings()
    tokenizer = SimpleTokenizer(context_length=CONTEXT_LENGTH)
    table = table - table.mean(0)
    width = tower.token_embedding.weight.shape[1]
    components = torch.linalg.svd(table, full_matrices=False).Vh[:width]
    reduced = table @ components.T
    reduced *= 0.02 / reduced.std()
    with torch.no_grad():
        for token, piece in tokenizer.decoder.items():
            letters = bytearray(
                tokenizer.byte_decoder.get(c, 32) for c in piece.replace("</w>", "")
            )
            rows = _word_pieces(letters.decode(errors="ignore").strip().lower(), vocabulary)
            if rows:
                tower.token_embedding.weight[token] = reduced[rows].mean(0)


def _word_pieces(word: str, vocabulary: dict[str, int]) -> list[int]:
    """Greedy longest-match pieces of a word (WordPiece); none if a part is unknown."""
    rows, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        end = next(
            (e for e in range(len(word), start, -1) if prefix + word[start:e] in vocabulary), 0
        )
        if not end:
            return []
        rows.append(vocabulary[prefix + word[start:end]])
        start = end
    return rows


def tokenize(texts: list[str]) -> npt.NDArray[np.int32]:
    """Token ids of all texts, (n, context length), zero after the end token."""
    tokenizer = SimpleTokenizer(context_length=CONTEXT_LENGTH)
    return np.concatenate(
        [
            tokenizer(texts[start : start + 4096]).numpy().astype(np.int32)
            for start in tqdm(range(0, len(texts), 4096), desc="tokens")
        ]
    )


def batches(lengths: npt.NDArray[np.int64], seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of one epoch's batches: shuffled, sorted by length within buckets, shuffled again."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    chunks = []
    for start in range(0, len(order), _BUCKET):
        bucket = order[start : start + _BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        chunks += [bucket[i : i + _BATCH] for i in range(0, len(bucket), _BATCH)]
    for index in rng.permutation(len(chunks)):
        yield chunks[index]


def encode(tower: TextTransformer, ids: Tensor) -> Tensor:
    """Embed token ids that are trimmed to the batch's longest: (n, length) to (n, 512)."""
    length = ids.shape[1]
    tower.attn_mask = tower.build_causal_mask()[:length, :length]
    out: Tensor = tower(ids)
    return out


def distillation_loss(student: Tensor, target: Tensor) -> Tensor:
    """Cosine distance plus cross-entropy between the batch's similarities, student's and teacher's.

    Args:
        student: (n, 512), any length.
        target: (n, 512), unit-norm.
    """
    cosine = 1 - cosine_similarity(student, target, dim=1).mean()
    unit = normalize(student, dim=1)
    relation = (target @ target.T / _TEMPERATURE).softmax(1)
    return cosine + 0.5 * cross_entropy(unit @ target.T / _TEMPERATURE, relation)


def train_text_tower(
    texts: list[str], targets: npt.NDArray[np.float16], work: Path, schedule: Schedule
) -> TextTransformer:
    """Train, or go on from the last checkpoint, and leave `work/text_tower.pt`.

    Args:
        texts: n texts.
        targets: the teacher's embeddings, (n, 384) float16.
        work: where checkpoints and the tower are written.
        schedule: epochs and learning rate.
    """
    done = work / "text_tower.pt"
    checkpoint = work / "text_checkpoint.pt"
    tower = build_text_tower()
    if done.exists():
        tower.load_state_dict(torch.load(done, weights_only=True))
        return tower.eval()
    start_from_word_pieces(tower, Teacher())
    tokens = tokenize(texts)
    lengths = (tokens != 0).sum(1)
    rotation = joint_rotation()
    steps_per_epoch = sum(1 for _ in batches(lengths, 0))
    optimizer = torch.optim.AdamW(_parameter_groups(tower), lr=schedule.peak_lr, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        schedule.peak_lr,
        total_steps=schedule.epochs * steps_per_epoch,
        pct_start=schedule.warmup_steps / (schedule.epochs * steps_per_epoch),
    )
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        tower.load_state_dict(state["tower"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        step = state["step"]
    progress = tqdm(total=schedule.epochs * steps_per_epoch, initial=step, desc="text tower")
    for epoch in range(step // steps_per_epoch, schedule.epochs):
        for number, rows in enumerate(batches(lengths, epoch)):
            if epoch * steps_per_epoch + number < step:
                continue
            ids = torch.from_numpy(tokens[rows, : lengths[rows].max()]).long()
            target = torch.from_numpy(targets[rows]).float() @ rotation.T
            loss = distillation_loss(encode(tower, ids), normalize(target, dim=1))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            step += 1
            progress.update()
            if step % 20 == 0:
                progress.set_postfix(loss=f"{loss.item():.4f}")
            if step % schedule.checkpoint_every == 0:
                _save(
                    checkpoint,
                    {
                        "tower": tower.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "scheduler": scheduler.state_dict(),
                        "step": step,
                    },
                )
    _save(done, tower.state_dict())
    return tower.eval()


def _parameter_groups(tower: TextTransformer) -> list[dict[str, object]]:
    decayed = [p for p in tower.parameters() if p.ndim >= 2]
    free = [p for p in tower.parameters() if p.ndim < 2]
    return [{"params": decayed, "weight_decay": 0.01}, {"params": free, "weight_decay": 0.0}]


def _save(path: Path, state: dict[str, object]) -> None:
    """Write beside, then rename, so that a kill leaves the last checkpoint whole."""
    partial = path.with_suffix(".tmp")
    torch.save(state, partial)
    partial.rename(path)


# Not inference_mode: the head's loss uses these embeddings beside weights that need gradients.
@torch.no_grad()
def embed_texts(tower: TextTransformer, texts: list[str]) -> Tensor:
    """Unit-norm embeddings of texts, (n, 512) float32."""
    tokens = torch.from_numpy(tokenize(texts)).long()
    return torch.cat([normalize(encode(tower, chunk), dim=1) for chunk in tokens.split(256)])
