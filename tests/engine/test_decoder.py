"""The decoder gives what one written for reading gives, for every trait that a family may have."""

import random
from typing import Any

import pytest
import torch

from asterism.workers.engine.rope import LinearScaling, Llama3Scaling, RopeScaling, YarnScaling
from tests.engine.conftest import CHARACTERS, random_decoder
from tests.engine.reference import all_logits

TRAITS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "every head its own": {"num_key_value_heads": 4},
    "one for all, untied": {"num_key_value_heads": 1, "tie_word_embeddings": False},
    "wide heads": {"head_dim": 12},
    "biases everywhere": {"qkv_bias": True, "output_bias": True, "mlp_bias": True},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True, "head_dim": 12},
    "mistral": {"sliding_window": 3},
    "window of one": {"sliding_window": 1},
    "linear": {"rope_scaling": LinearScaling(4.0)},
    "llama3": {"rope_theta": 50.0, "rope_scaling": Llama3Scaling(8.0, 1.0, 4.0, 40)},
    "yarn": {"rope_theta": 50.0, "rope_scaling": YarnScaling(4.0, 16, 2.0, 0.25, 1.14, True)},
    "yarn, not truncated": {"rope_theta": 50.0, "rope_scaling": YarnScaling(4.0, 16, 2.0, 0.25, 1.0, False)},
}


@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS.keys())
@torch.inference_mode()
def test_the_decoder_equals_the_one_written_for_reading(traits: dict[str, Any]) -> None:
    decoder = random_decoder(3, **traits)
    token_ids = [random.Random(4).randrange(len(CHARACTERS)) for _ in range(9)]
    expected = all_logits(decoder.config, decoder.state_dict(), token_ids)
    torch.testing.assert_close(decoder(torch.tensor([token_ids]))[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scaling", [TRAITS[name]["rope_scaling"] for name in ("linear", "llama3", "yarn")])
@torch.inference_mode()
def test_a_scaling_changes_what_is_computed(scaling: RopeScaling) -> None:
    token_ids = torch.tensor([[3, 1, 4, 1, 5]])
    plain, scaled = random_decoder(3, rope_theta=50.0), random_decoder(3, rope_theta=50.0, rope_scaling=scaling)
    assert not torch.allclose(plain(token_ids), scaled(token_ids), rtol=1e-3, atol=1e-3)


def test_tables_made_without_gradients_serve_training_too() -> None:
    decoder = random_decoder(3)
    token_ids = torch.tensor([[3, 1, 4]])
    with torch.inference_mode():
        decoder(token_ids)
    torch.autograd.backward(decoder(token_ids).sum())
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_longer_tables_begin_with_the_shorter_ones() -> None:
    decoder = random_decoder(3)
    short = decoder.rotary(3)
    for longer, shorter in zip(decoder.rotary(700), short, strict=True):
        assert len(longer) == 700
        assert torch.equal(longer[:3], shorter)
