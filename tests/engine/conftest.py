"""A tiny model with random weights, whose tokens are characters, and helpers to run requests to their end."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder, RMSNorm
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.seam import Engine, GenerationChunk, GenerationEnd, GenerationRequest

CHARACTERS = "?abcdefghijklmnopqrstuvwxyz 0123456789"
"""`?` is the unknown token."""

TINY = DecoderConfig(
    vocab_size=len(CHARACTERS),
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
)

Collect = Callable[[Engine, Sequence[GenerationRequest]], Coroutine[None, None, dict[str, tuple[str, GenerationEnd]]]]


def character_tokenizer() -> Tokenizer:
    vocab = {character: number for number, character in enumerate(CHARACTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def random_decoder(seed: int, **changes: Any) -> Decoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(replace(TINY, **changes))
        with torch.no_grad():
            for parameter in decoder.parameters():
                # Far from the usual 0.02, so that the likeliest token changes from step to step.
                parameter.normal_(0.0, 0.35)
            for norm in decoder.modules():
                if isinstance(norm, RMSNorm):
                    norm.weight.add_(1.0)
    return decoder.eval()


@pytest.fixture(scope="session", autouse=True)
def one_os_thread() -> None:
    """What is computed here is too small to share, and on a busy machine threads of one operation wait for another."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model() -> ModelFolder:
    return ModelFolder("tiny", random_decoder(seed=1), character_tokenizer())


@pytest.fixture
def collect() -> Collect:
    """Runs requests to their ends: id -> (text, end); checks that each has one end and nothing after it."""

    async def run(engine: Engine, requests: Sequence[GenerationRequest]) -> dict[str, tuple[str, GenerationEnd]]:
        texts = {request.id: "" for request in requests}
        tokens = dict.fromkeys(texts, 0)
        ends: dict[str, GenerationEnd] = {}
        async for event in engine.generate(requests):
            assert event.request_id not in ends
            match event:
                case GenerationChunk(request_id=request_id, text=text, tokens=count):
                    assert text
                    texts[request_id] += text
                    tokens[request_id] += count
                case GenerationEnd(request_id=request_id):
                    ends[request_id] = event
                    assert tokens[request_id] <= event.tokens
        assert ends.keys() == texts.keys()
        return {request_id: (texts[request_id], ends[request_id]) for request_id in texts}

    return run
