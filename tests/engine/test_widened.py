"""A model in a larger shape computes what it did in its own."""

from dataclasses import replace

import torch

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from tests.bench.widened import widened
from tests.engine.reference import all_logits

SMALL = DecoderConfig(
    vocab_size=31,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
)
WIDE = replace(
    SMALL,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=16,
    num_key_value_heads=4,
    head_dim=16,
)


def test_the_same_logits_in_a_larger_shape() -> None:
    torch.manual_seed(3)
    small = Decoder(SMALL)
    for parameter in small.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    wide = widened(small, WIDE, dtype=torch.float32, device=torch.device("cpu"))
    token_ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
    expected = all_logits(SMALL, small.state_dict(), token_ids)
    found = all_logits(wide.config, wide.state_dict(), token_ids)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
