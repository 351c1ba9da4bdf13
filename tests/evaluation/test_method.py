"""The product and an independent implementation of the method agree."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clip.labels import LabelEncoder
from app.clip.model import load_model
from app.embedder import ClipEmbedder
from app.evaluation.datasets.detect import Reading, open_datasets
from app.evaluation.embeddings import embed_images, retrieve_captions
from app.evaluation.prompts import ENSEMBLES
from app.evaluation.protocol import Method, answer, cast_votes
from app.index.build import Options, build_collection
from app.index.collection import Collection
from app.index.manifest import Kind
from app.index.sources.detect import detect
from app.settings import ROOT, Precision
from app.xmore.ensemble import Fusion, Normalization, ensemble
from app.xmore.retrieval import retrieve
from tests.arrays import unit
from tests.evaluation import method
from tests.xmore.test_retrieval import MemoryCollection

WORDS = ["a cat", "A  cat.", "a dog", "a dog!", "the sea", "The Sea…", "a tree"]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(0, 12),
    st.integers(1, 5),
    st.integers(1, 9),
    st.floats(0.01, 150),
    st.sampled_from(["image", "text", "mean", "product", "request", "batch", "stream"]),
)
@settings(deadline=None)
def test_random_images_captions_and_labels(
    seed: int, size: int, k: int, images: int, labels: int, scale: float, name: str
) -> None:
    rng = np.random.default_rng(seed)
    texts = [str(text) for text in rng.choice(WORDS, size)]
    t, v, w = unit(rng, size), unit(rng, images), unit(rng, labels)

    found = retrieve(v, MemoryCollection(texts, t), k)
    plain = name in ("request", "batch", "stream")
    fusion = Fusion.CONFIDENCE if plain else Fusion(name)
    normalization = Normalization(name) if plain else Normalization.REQUEST
    ours = ensemble(v, [f.embeddings for f in found], w, scale, fusion, normalization)

    entries = [(vector, [row]) for row, vector in enumerate(t.tolist())]
    rows = [method.retrieved(x, entries, texts, t.tolist(), k) for x in v.tolist()]
    assert [f.ids.tolist() for f in found] == rows
    answers = [
        method.votes(x, [t[row].tolist() for row in ids], w.tolist(), scale)
        for x, ids in zip(v.tolist(), rows, strict=True)
    ]
    theirs = method.weighed(answers, [len(ids) > 0 for ids in rows], name)
    # Embeddings and their cosines are float32; the scale multiplies what that loses.
    np.testing.assert_allclose(ours.image, [a.image for a in theirs], atol=1e-4)
    np.testing.assert_allclose(ours.text, [a.text for a in theirs], atol=1e-4)
    np.testing.assert_allclose(ours.confidences, [a.confidences for a in theirs], atol=1e-4)


@pytest.mark.parametrize("name", ["request", "batch", "stream", "mean", "text", "image", "product"])
def test_weights_and_the_fused_vote(name: str) -> None:
    rng = np.random.default_rng(5)
    t, v, w = unit(rng, 12), unit(rng, 4), unit(rng, 5)
    captions = [t[:3], t[3:3], t[3:9], t[9:]]
    confidence = name in ("request", "batch", "stream")
    ours = ensemble(
        v,
        captions,
        w,
        20.0,
        Fusion.CONFIDENCE if confidence else Fusion(name),
        Normalization(name) if confidence else Normalization.REQUEST,
    )
    answers = [
        method.votes(x, c.tolist(), w.tolist(), 20.0)
        for x, c in zip(v.tolist(), captions, strict=True)
    ]
    theirs = method.weighed(answers, [len(c) > 0 for c in captions], name)
    np.testing.assert_allclose(ours.weights, [a.weights for a in theirs], atol=1e-5)
    np.testing.assert_allclose(ours.probabilities, [a.fused for a in theirs], atol=1e-5)


@pytest.mark.parametrize("name", ["imagenette", "caltech101"])
def test_a_whole_set_of_real_photos(labelled_data: Path, tmp_path: Path, name: str) -> None:
    clip = load_model(f"local-dir:{ROOT / 'models' / 'mini'}", None, Precision.FP32)
    shard = labelled_data.parent / "pairs" / "coco-val2014-subset-000.tar"
    options = Options(name="photos", kind=Kind.PAIRS)
    build_collection([*detect([shard])], tmp_path / "photos", ClipEmbedder(clip, 10**7), options)
    collection = Collection.open(tmp_path / "photos")
    (dataset,) = open_datasets([str(labelled_data / f"{name}.tar")], Reading())
    images = embed_images(dataset, clip, tmp_path, lambda _: None)
    ids = retrieve_captions(images, collection, [16], True, tmp_path, lambda _: None)[16]
    w = LabelEncoder(clip.encode_texts, 0).embed(dataset.classes, ENSEMBLES["single"])

    everything = np.arange(len(collection))
    texts, t = collection.texts(everything), collection.embeddings(everything).tolist()
    searched = np.concatenate(list(collection.index.blocks()))
    captions = collection.nearest(searched, 1)
    entries = [
        (vector, row[row >= 0].tolist())
        for vector, row in zip(searched.tolist(), captions, strict=True)
    ]
    labels = [
        method.label_embedding(clip.encode_texts([f"a photo of a {label}."]).tolist())
        for label in dataset.classes
    ]
    vectors = images.vectors.tolist()
    rows = [method.retrieved(v, entries, texts, t, 16) for v in vectors]
    # FAISS searches vectors of half precision, so the last of the 128 photos may be another one.
    same = [found == expected for found, expected in zip(ids.tolist(), rows, strict=True)]
    assert np.mean(same) > 0.99
    answers = [
        method.votes(v, [t[row] for row in found], labels, clip.logit_scale)
        for v, found in zip(vectors, ids.tolist(), strict=True)
    ]
    with cast_votes([images.vectors], ids, collection, w, clip.logit_scale, tmp_path) as votes:
        for how in Method:
            ours = answer(votes, images.targets, how)
            order = list(range(len(answers)))
            if how in (Method.BATCH, Method.STREAM):
                order = np.random.default_rng(0).permutation(len(answers)).tolist()
            size = 16 if how is Method.BATCH else len(order)
            for start in range(0, len(order), size):
                part = order[start : start + size]
                theirs = method.weighed([answers[row] for row in part], [True] * len(part), how)
                p = np.array([a.fused for a in theirs])
                np.testing.assert_allclose(ours.probabilities[part], p.max(axis=1), atol=1e-4)
                two_best = np.sort(p, axis=1)[:, -2:]
                clear = two_best[:, 1] - two_best[:, 0] > 2e-4
                assert (ours.labels[part] == p.argmax(axis=1))[clear].all()
                assert clear.mean() > 0.9
