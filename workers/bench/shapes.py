"""Models of random weights in the sizes that engines are compared at; their tokenizer's words are numbers."""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.folder import ModelFolder

CONTEXT_TOKENS: Final = 1024


def _config(vocab: int, hidden: int, intermediate: int, layers: int, heads: int) -> DecoderConfig:
    return DecoderConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=CONTEXT_TOKENS,
    )


SHAPES: Final[Mapping[str, DecoderConfig]] = {
    "5M": _config(vocab=1_024, hidden=256, intermediate=704, layers=6, heads=8),
    "50M": _config(vocab=8_192, hidden=640, intermediate=1_728, layers=10, heads=10),
    "150M": _config(vocab=16_384, hidden=1_024, intermediate=2_752, layers=12, heads=16),
}
"""4.7, 50.7 and 156 million parameters. Widths are multiples of 32, the block of llama.cpp's Q8_0."""


def random_model(name: str) -> ModelFolder:
    """The model of a shape; the same weights each time, in float32, and such as bfloat16 has: checkpoints are in it."""
    config = SHAPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = Decoder(config).bfloat16().float().eval()
    tokenizer = Tokenizer(models.WordLevel({f"{number}": number for number in range(config.vocab_size)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return ModelFolder(name, decoder, tokenizer)


def prompt(token_ids: Sequence[int]) -> str:
    """The text of these token ids."""
    return " ".join(map(str, token_ids))
