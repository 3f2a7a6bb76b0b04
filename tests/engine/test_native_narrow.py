"""Matrices whose numbers bfloat16 has are held in it: half the bytes, and the same bits in every result."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.native.computer import NativeComputer
from asterism.workers.engine.step import Step
from tests.engine.conftest import TINY, random_decoder
from tests.engine.natively import Memory, Sequence, computer, rounded

NO_BFLOAT16: Final = 0.1
"""A number that bfloat16 has not."""

shapes = st.fixed_dictionaries(
    {
        "vocab_size": st.integers(2, 90),
        "hidden_size": st.integers(1, 130),
        "intermediate_size": st.integers(1, 100),
        "num_key_value_heads": st.integers(1, 3),
        "head_dim": st.integers(1, 20).map(lambda half: 2 * half),
        "qkv_bias": st.booleans(),
        "qk_norm": st.booleans(),
        "tie_word_embeddings": st.booleans(),
    }
)


def logits_of(native: NativeComputer, draws: random.Random, vocab: int) -> Tensor:
    """Of some sequences in steps of many rows and of few: [samples, vocab]."""
    memory = Memory(native.blocks)
    sequences = [Sequence(memory) for _ in range(draws.randrange(1, 12))]
    found = list[Tensor]()
    for longest in (20, 1, 2):
        chunks = tuple(each.chunk(draws.choices(range(vocab), k=draws.randint(1, longest))) for each in sequences)
        found.append(native.compute(Step((), chunks)))
    return torch.cat(found)


def with_zeros(decoder: Decoder, *, rare: float) -> Decoder:
    """One that computes the same with one more of each: a KV head, a place between, a word. `rare` is in every matrix,
    always beside a factor of 0."""
    config = decoder.config
    group = config.num_attention_heads // config.num_key_value_heads
    wider = replace(
        config,
        vocab_size=config.vocab_size + 1,
        intermediate_size=config.intermediate_size + 1,
        num_attention_heads=config.num_attention_heads + group,
        num_key_value_heads=config.num_key_value_heads + 1,
    )
    result = Decoder(wider).eval()
    # What is added: queries meet keys of 0, what is attended to is 0, and so is the gate.
    added = ("q_proj", "up_proj", "o_proj", "down_proj", "lm_head", "embed_tokens")
    given: Mapping[str, Tensor] = decoder.state_dict()
    with torch.no_grad():
        for name, target in result.state_dict().items():
            target.fill_(rare if name.endswith("weight") and name.split(".")[-2] in added else 0.0)
            target[tuple(map(slice, given[name].shape))] = given[name]
    return result


@settings(max_examples=40)
@given(shape=shapes, group=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_the_same_bits_as_held_in_float32(shape: dict[str, int], group: int, seed: int) -> None:
    changes = {**shape, "num_attention_heads": group * shape["num_key_value_heads"]}
    narrow = rounded(random_decoder(seed, **changes))
    kept, wide = with_zeros(narrow, rare=0.5), with_zeros(narrow, rare=NO_BFLOAT16)
    computers = [computer(decoder, blocks=400, os_threads=2) for decoder in (narrow, kept, wide)]
    found = [logits_of(native, random.Random(seed), shape["vocab_size"]) for native in computers]

    assert computers[2].matrix_bytes == 2 * computers[1].matrix_bytes
    assert torch.equal(found[1][:, :-1], found[2][:, :-1])
    assert torch.equal(found[0], found[1][:, :-1])


@settings(max_examples=25)
@given(shape=shapes, group=st.integers(1, 3), seed=st.integers(0, 2**32))
@torch.inference_mode()
def test_logits_are_those_of_float64(shape: dict[str, int], group: int, seed: int) -> None:
    changes = {**shape, "num_attention_heads": group * shape["num_key_value_heads"]}
    narrow = rounded(random_decoder(seed, **changes))
    sequence, draws = Sequence(Memory(64)), random.Random(seed)
    token_ids = draws.choices(range(shape["vocab_size"]), k=40)
    native = computer(narrow)
    native.compute(Step((), (sequence.chunk(token_ids[:-1]),)))
    (logits,) = native.compute(Step((), (sequence.chunk(token_ids[-1:]),)))

    expected = narrow.double()(torch.tensor([token_ids]))[0, -1]

    torch.testing.assert_close(logits.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_matrix_with_one_other_number_is_held_in_float32() -> None:
    narrow = rounded(random_decoder(51, tie_word_embeddings=False))
    least = computer(narrow).matrix_bytes
    hidden, intermediate, tile = TINY.hidden_size, TINY.intermediate_size, 32
    sizes = {
        "model.layers.1.self_attn.k_proj.weight": 64 * hidden,
        "model.layers.0.self_attn.o_proj.weight": tile * hidden,
        "model.layers.1.mlp.up_proj.weight": 2 * intermediate * hidden,
        "model.layers.0.mlp.down_proj.weight": tile * intermediate,
        "lm_head.weight": 64 * hidden,
        "model.embed_tokens.weight": 0,
        "model.norm.weight": 0,
    }
    for name, size in sizes.items():
        decoder = rounded(narrow)
        with torch.no_grad():
            decoder.get_parameter(name).view(-1)[-1] = NO_BFLOAT16
        native = computer(decoder)

        assert native.matrix_bytes == least + 2 * size, name
        (logits,) = native.compute(Step((), (Sequence(Memory(64)).chunk([5, 37, 1, 37]),)))
        torch.testing.assert_close(logits, decoder(torch.tensor([[5, 37, 1, 37]]))[0, -1], rtol=1e-4, atol=1e-4)
