"""Encode texts over as many tokens as the longest of them has, instead of the whole context."""

from collections.abc import Callable
from typing import Any

import open_clip
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

EncodeText = Callable[[Tensor], Tensor]


def trimmed_encode_text(network: Any) -> EncodeText:
    """`network.encode_text`, over trimmed tokens where the tower allows it.

    In a causal tower that is read off at the end token, no token up to there sees the padding
    behind it, so leaving the padding out changes nothing. Other towers keep the whole context.

    Args:
        network: an open_clip model.

    Returns:
        Token ids, (n, context) int64, to features (n, d).
    """
    causal = type(network) is open_clip.CLIP and network.attn_mask is not None
    if not causal or network.text_pool_type != "argmax":
        encode: EncodeText = network.encode_text
        return encode

    def encode_trimmed(tokens: Tensor) -> Tensor:
        # The end token has the highest id.
        length = int(tokens.argmax(dim=1).max()) + 1
        tokens = tokens[:, :length]
        dtype = network.transformer.get_cast_dtype()
        x = network.token_embedding(tokens).to(dtype)
        x = x + network.positional_embedding[:length].to(dtype)
        x = network.transformer(x, attn_mask=network.attn_mask[:length, :length])
        pooled = text_global_pool(network.ln_final(x), tokens, "argmax")
        return _project(pooled, network.text_projection)

    return encode_trimmed


def _project(features: Tensor, projection: nn.Linear | nn.Parameter | None) -> Tensor:
    if projection is None:
        return features
    if isinstance(projection, nn.Linear):
        projected: Tensor = projection(features)
        return projected
    return features @ projection
