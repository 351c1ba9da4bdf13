"""X-MoRe written down once more, step by step, one image and one number at a time.

Made from the description of the method alone, it shares no code with the product.
"""

import math
import re
from dataclasses import dataclass
from operator import mul

Vector = list[float]


@dataclass
class Answer:
    image: Vector
    text: Vector
    fused: Vector
    weights: tuple[float, float]
    confidences: tuple[float, float]


def dot(a: Vector, b: Vector) -> float:
    return math.fsum(map(mul, a, b))


def softmax(logits: Vector) -> Vector:
    top = max(logits)
    odds = [math.exp(logit - top) for logit in logits]
    return [o / sum(odds) for o in odds]


def confidence(p: Vector) -> float:
    if len(p) == 1:
        return 1.0
    entropy = -sum(x * math.log(x) for x in p if x > 0)
    return min(1.0, max(0.0, 1 - entropy / math.log(len(p))))


def folded(caption: str) -> str:
    return re.sub(r"[\s.,;:!?…]+$", "", " ".join(caption.casefold().split()))


def retrieved(
    v: Vector, entries: list[tuple[Vector, list[int]]], texts: list[str], t: list[Vector], k: int
) -> list[int]:
    """Captions that vote: entries are vectors that are searched, each with its captions."""
    nearest = sorted(range(len(entries)), key=lambda e: -dot(v, entries[e][0]))
    depth = max(128, k)
    while True:
        kept: dict[str, int] = {}
        for entry in nearest[:depth]:
            for caption in entries[entry][1]:
                kept.setdefault(folded(texts[caption]), caption)
        if len(kept) >= k or depth >= len(entries):
            break
        depth *= 2
    return sorted(kept.values(), key=lambda c: -dot(v, t[c]))[:k]


def label_embedding(prompts: list[Vector]) -> Vector:
    mean = [sum(column) / len(prompts) for column in zip(*prompts, strict=True)]
    norm = math.sqrt(dot(mean, mean))
    return [x / norm for x in mean]


def votes(v: Vector, captions: list[Vector], labels: list[Vector], s: float) -> Answer:
    """Both votes; fused and weights are those of plain CLIP until `weighed`."""
    image = softmax([s * dot(v, w) for w in labels])
    each = [softmax([s * dot(t, w) for w in labels]) for t in captions]
    if each:
        text = [sum(column) / len(each) for column in zip(*each, strict=True)]
    else:
        text = [1 / len(labels)] * len(labels)
    sure = (confidence(image), confidence(text) if each else 0.0)
    return Answer(image, text, image, (1.0, 0.0), sure)


def weighed(answers: list[Answer], has_captions: list[bool], method: str) -> list[Answer]:
    """The answers to the images of one request (or of one stream, in its order)."""
    speaking = [a for a, has in zip(answers, has_captions, strict=True) if has]
    out, sums = [], [0.0, 0.0]
    for a, has in zip(answers, has_captions, strict=True):
        if not has:
            out.append(a)
            continue
        sums = [total + c for total, c in zip(sums, a.confidences, strict=True)]
        usual = {
            "request": [1.0, 1.0],
            "batch": [sum(b.confidences[m] for b in speaking) / len(speaking) for m in (0, 1)],
            "stream": sums,
        }
        if method in usual:
            c = [x / u if u else 0.0 for x, u in zip(a.confidences, usual[method], strict=True)]
            weights = (c[0] / sum(c), c[1] / sum(c)) if sum(c) else (0.5, 0.5)
        else:
            fixed = {"image": 1.0, "text": 0.0, "mean": 0.5, "product": 0.9}[method]
            weights = (fixed, 1 - fixed)
        fused = [weights[0] * i + weights[1] * t for i, t in zip(a.image, a.text, strict=True)]
        if method == "product":
            odds = [i**0.9 * t**0.1 for i, t in zip(a.image, a.text, strict=True)]
            fused = [o / sum(odds) for o in odds]
        out.append(Answer(a.image, a.text, fused, weights, a.confidences))
    return out
