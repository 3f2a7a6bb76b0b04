"""The shapes of what can be trained: the shipped model, and a wider one for the boards of another paper."""

from dataclasses import dataclass
from typing import Final

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.training.traces import END_ID, TOKEN_ID


def _shape(hidden: int, intermediate: int, heads: int, kv_heads: int) -> DecoderConfig:
    return DecoderConfig(
        vocab_size=len(TOKEN_ID),
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=6,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=1024,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        eos_token_ids=(END_ID,),
    )


CONFIG: Final = _shape(192, 512, 6, 2)
"""The shipped model: 2.4 million parameters, 4.9 MB in float16."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Numbers from 1 to `largest`, targets from 10 to 100, and a share of Games of 24; and the shape that learns it."""

    largest: int
    share_24: float
    shape: DecoderConfig


DISTRIBUTIONS: Final = {
    "countdown": Distribution(largest=20, share_24=0.2, shape=CONFIG),
    # Adaptive Parallel Reasoning (arXiv 2504.15466): four numbers of 1-99, targets of 10-100.
    "apr": Distribution(largest=99, share_24=0.0, shape=_shape(256, 704, 8, 2)),
}
