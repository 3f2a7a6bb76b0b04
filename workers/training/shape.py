"""The shape of the shipped model: small enough for one CPU core, large enough to rank first moves."""

from typing import Final

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.training.traces import END_ID, TOKEN_ID

CONFIG: Final = DecoderConfig(
    vocab_size=len(TOKEN_ID),
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    rope_theta=10_000.0,
    tie_word_embeddings=True,
    eos_token_ids=(END_ID,),
)
