"""Answers of the service as JSON, made for tests."""

from typing import Any

import httpx

RESULT: dict[str, Any] = {
    "filename": "cat.jpg",
    "predictions": [
        {
            "label": "cat",
            "probability": 0.75,
            "image_probability": 0.5,
            "text_probability": 0.875,
        },
        {
            "label": "dog",
            "probability": 0.25,
            "image_probability": 0.5,
            "text_probability": 0.125,
        },
    ],
    "modalities": {
        "image": {"confidence": 0.25, "weight": 0.375},
        "text": {"confidence": 0.5, "weight": 0.625},
    },
    "captions": [{"id": 7, "text": "a cat asleep", "similarity": 0.25}],
}

CLASSIFICATION: dict[str, Any] = {
    "model": "mini",
    "index": "default",
    "results": [RESULT],
    "timings": {
        "decode_ms": 1.0,
        "encode_ms": 2.0,
        "retrieve_ms": 3.0,
        "fuse_ms": 4.0,
        "total_ms": 10.0,
    },
    "warnings": [],
    "degraded": False,
}

_INDEX = {
    "name": "default",
    "kind": "captions",
    "captions": 3,
    "images": None,
    "faiss": "SQfp16",
    "fingerprint": "f" * 64,
}

INFO: dict[str, Any] = {
    "version": "1.0",
    "model": {
        "name": "mini",
        "fingerprint": "e" * 64,
        "embed_dim": 16,
        "precision": "fp32",
        "device": "cpu",
        "engine": "torch",
        "threads": 2,
        "batch_size": 8,
        "parallel_batches": 2,
        "decode_threads": 2,
    },
    "index": _INDEX,
    "indexes": [_INDEX],
    "limits": {
        "max_image_bytes": 100,
        "max_pixels": 100,
        "max_images": 16,
        "max_labels": 10,
        "max_label_length": 10,
        "max_templates": 10,
        "max_captions": 64,
    },
}


def problem(status: int, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """A problem document."""
    document = {"title": "A title", "status": status, "detail": "What is wrong.", **more}
    headers = {"Content-Type": "application/problem+json", **(headers or {})}
    return httpx.Response(status, json=document, headers=headers)
