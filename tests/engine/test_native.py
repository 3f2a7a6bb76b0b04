"""The native computer gives what the decoder gives, for every family."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from asterism.workers.engine.errors import InvalidStep, UnsupportedModel
from asterism.workers.engine.native.arrays import MAX_ROWS
from asterism.workers.engine.step import Chunk, Step
from tests.engine.conftest import CHARACTERS, random_decoder
from tests.engine.natively import WEIGHTS, Memory, Sequence, Weights, computer
from tests.engine.reference import all_logits
from tests.engine.test_decoder import TRAITS

SHAPES: dict[str, dict[str, Any]] = {
    "no multiples of a register": {
        "vocab_size": 77,
        "hidden_size": 100,
        "intermediate_size": 83,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 18,
    },
    "many heads for one": {"hidden_size": 140, "num_attention_heads": 70, "num_key_value_heads": 1, "head_dim": 2},
    "large heads": {"num_attention_heads": 2, "head_dim": 256, "sliding_window": 150},
    "qwen3, wide": {"hidden_size": 64, "head_dim": 64, "qk_norm": True, "vocab_size": 640},
}


def random_ids(seed: int, length: int, vocab: int) -> list[int]:
    return random.Random(seed).choices(range(vocab), k=length)


@pytest.mark.parametrize("traits", (TRAITS | SHAPES).values(), ids=(TRAITS | SHAPES).keys())
@torch.inference_mode()
def test_logits_are_those_of_the_decoder(traits: dict[str, Any]) -> None:
    decoder = random_decoder(3, **traits)
    native = computer(decoder)
    token_ids = random_ids(4, 300, decoder.config.vocab_size)
    sequence, logits = Sequence(Memory(64)), list[Tensor]()
    for begin, end in ((0, 1), (1, 90), (90, 91), (91, 300)):
        logits += native.compute(Step((), (sequence.chunk(token_ids[begin:end]),)))

    expected = decoder(torch.tensor([token_ids]))[0, [0, 89, 90, 299]]

    torch.testing.assert_close(torch.stack(logits), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS.keys())
@torch.inference_mode()
def test_logits_are_those_of_the_decoder_written_for_reading(traits: dict[str, Any]) -> None:
    decoder = random_decoder(5, **traits)
    token_ids = random_ids(6, 9, len(CHARACTERS))
    (logits,) = computer(decoder).compute(Step((), (Sequence(Memory(64)).chunk(token_ids),)))

    expected = all_logits(decoder.config, decoder.state_dict(), token_ids)

    torch.testing.assert_close(logits, expected[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["grouped", "qwen2", "qwen3", "mistral"])
@torch.inference_mode()
def test_the_likeliest_tokens_are_the_same_for_200_steps(family: str) -> None:
    decoder = random_decoder(7, **TRAITS[family])
    native, sequence = computer(decoder), Sequence(Memory(64))
    token_ids = [3, 1, 4]
    logits = native.compute(Step((), (sequence.chunk(token_ids),)))
    for _ in range(200):
        token_ids.append(int(logits.argmax()))
        logits = native.compute(Step((), (sequence.chunk(token_ids[-1:]),)))

    expected = decoder(torch.tensor([token_ids]))[0].argmax(dim=-1)

    assert token_ids[3:] == expected[2:-1].tolist()
    assert len(set(token_ids[3:])) > 5


@pytest.mark.parametrize("weights", WEIGHTS)
def test_only_rows_that_sample_have_logits(weights: Weights) -> None:
    native, memory = computer(random_decoder(10), weights), Memory(64)
    chunks = [Sequence(memory).chunk([n, n + 1], samples=n % 2 == 1) for n in range(5)]

    both = native.compute(Step((), tuple(chunks)))
    none = native.compute(Step((), tuple(chunks[::2])))
    nothing = native.compute(Step((), ()))

    assert (both.shape, none.shape, nothing.shape) == ((2, len(CHARACTERS)), (0, len(CHARACTERS)), (0, len(CHARACTERS)))
    for row, n in enumerate((1, 3)):
        (alone,) = native.compute(Step((), (chunks[n],)))
        assert torch.equal(both[row], alone)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused(bad: float) -> None:
    decoder = random_decoder(11)
    with torch.no_grad():
        decoder.get_parameter("model.layers.1.mlp.up_proj.weight")[3, 4] = bad
    with pytest.raises(UnsupportedModel, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        computer(decoder)


def test_a_weight_that_is_unknown_is_refused() -> None:
    decoder = random_decoder(12)
    decoder.register_parameter("extra", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(UnsupportedModel, match="extra"):
        computer(decoder)


def test_weights_in_half_precision_are_taken_in() -> None:
    decoder = random_decoder(13).bfloat16()
    step = Step((), (Sequence(Memory(64)).chunk([1, 2, 3]),))
    assert torch.equal(computer(decoder).compute(step), computer(decoder.float()).compute(step))


def test_a_step_of_as_many_sequences_as_there_may_be() -> None:
    many_heads = {"hidden_size": 128, "intermediate_size": 16, "num_attention_heads": 64, "num_key_value_heads": 64}
    decoder = random_decoder(14, num_hidden_layers=1, head_dim=2, **many_heads)
    native = computer(decoder, blocks=MAX_ROWS + 1, context_tokens=16, os_threads=2)
    chunks = [Chunk([row % len(CHARACTERS)], 0, [row], samples=True) for row in range(MAX_ROWS + 1)]

    few = native.compute(Step((), tuple(chunks[: len(CHARACTERS)])))
    logits = native.compute(Step((), tuple(chunks[:MAX_ROWS])))

    assert torch.equal(logits, few[torch.arange(MAX_ROWS) % len(CHARACTERS)])
    with pytest.raises(InvalidStep, match="8193 tokens"):
        native.compute(Step((), tuple(chunks)))
