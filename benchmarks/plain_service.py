"""The service that one writes in an afternoon, to compare with: open_clip behind a FastAPI route.

    python -m benchmarks.plain_service --model local-dir:models/mini --port 8001

float32, one image at a time, the labels encoded for each request; `--cache-labels` keeps them.
"""

import argparse
import io
from typing import Annotated

import open_clip
import torch
import uvicorn
from fastapi import FastAPI, File, Form, UploadFile
from PIL import Image
from torch import Tensor


def create_app(model_name: str, cache_labels: bool) -> FastAPI:
    """The application; the model is loaded here."""
    model, preprocess = open_clip.create_model_from_pretrained(model_name)
    model.eval()
    tokenizer = open_clip.get_tokenizer(model_name)
    kept: dict[tuple[str, ...], Tensor] = {}

    def encode_labels(labels: tuple[str, ...]) -> Tensor:
        if labels in kept:
            return kept[labels]
        tokens = tokenizer([f"a photo of a {label}." for label in labels])
        features: Tensor = model.encode_text(tokens, normalize=True)
        if cache_labels:
            kept[labels] = features
        return features

    app = FastAPI()

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/classify")
    async def classify(
        image: Annotated[UploadFile, File()], labels: Annotated[list[str], Form()]
    ) -> list[dict[str, str | float]]:
        photo = Image.open(io.BytesIO(await image.read())).convert("RGB")
        with torch.no_grad():
            v = model.encode_image(preprocess(photo).unsqueeze(0), normalize=True)
            w = encode_labels(tuple(labels))
            p = (model.logit_scale.exp() * v @ w.T).softmax(dim=-1)[0].tolist()
        best = sorted(zip(labels, p, strict=True), key=lambda pair: -pair[1])
        return [{"label": label, "score": score} for label, score in best]

    return app


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True, help="what open_clip loads")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--cache-labels", action="store_true")
    given = parser.parse_args()
    app = create_app(given.model, given.cache_labels)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
