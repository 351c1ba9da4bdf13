"""Encode texts over as many tokens as the longest of them has, instead of the whole context."""

from collections.abc import Callable
from typing import Any

import open_clip
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

EncodeText = Callable[[Tensor], Tensor]


def trimmed_encode_text(network: Any) -> EncodeText:
    """`network.encode_text`, over trimmed tokens where the tower allows it.

    Args:
        network: an open_clip model.

    Returns:
        Token ids, (n, context) int64, to features (n, d).
    """
    if not can_trim(network):
        encode: EncodeText = network.encode_text
        return encode
    return lambda tokens: encode_given(network, trim(tokens))


def can_trim(network: Any) -> bool:
    """Whether the text tower answers the same without the padding.

    In a causal tower that is read off at the end token, no token up to there sees the padding
    behind it, so leaving the padding out changes nothing. Other towers keep the whole context.
    """
    causal = type(network) is open_clip.CLIP and network.attn_mask is not None
    return causal and network.text_pool_type == "argmax"


def trim(tokens: Tensor) -> Tensor:
    """Token ids, (n, context) int64, up to the last end token, which has the highest id."""
    return tokens[:, : int(tokens.argmax(dim=1).max()) + 1]


def encode_given(network: Any, tokens: Tensor) -> Tensor:
    """Token ids, (n, length) int64, of a network that `can_trim`, to features (n, d)."""
    length = tokens.shape[1]
    dtype = network.transformer.get_cast_dtype()
    x = network.token_embedding(tokens).to(dtype)
    x = x + network.positional_embedding[:length].to(dtype)
    x = network.transformer(x, attn_mask=network.attn_mask[:length, :length])
    pooled = text_global_pool(network.ln_final(x), tokens, "argmax")
    return _project(pooled, network.text_projection)


def _project(features: Tensor, projection: nn.Linear | nn.Parameter | None) -> Tensor:
    if projection is None:
        return features
    if isinstance(projection, nn.Linear):
        projected: Tensor = projection(features)
        return projected
    return features @ projection
