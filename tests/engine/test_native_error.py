"""int8 weights err less than llama.cpp's Q8_0, whose blocks they have, on weights with outliers and without."""

import pytest
import torch

from asterism.workers.bench.q8_0 import q8_0, quantise, rms
from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.step import Chunk, Step
from tests.engine.natively import computer

CONFIG = DecoderConfig(
    vocab_size=2048,
    hidden_size=256,
    intermediate_size=704,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)


def widen(decoder: Decoder, generator: torch.Generator) -> None:
    """Outliers as trained models have them: a few channels and single weights far from the rest."""
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() == 2:
                rare = torch.rand(parameter.shape, generator=generator) < 1e-3
                parameter[rare] *= 8
                columns = torch.randperm(parameter.shape[1], generator=generator)[: parameter.shape[1] // 100 + 1]
                parameter[:, columns] *= 5


def test_the_emulation_of_q8_0_by_hand() -> None:
    x = torch.zeros(1, 34)
    x[0, 0], x[0, 1], x[0, 33] = 127.0, 0.6, 254.0
    expected = torch.zeros(1, 34)
    expected[0, 0], expected[0, 1], expected[0, 33] = 127.0, 1.0, 254.0
    assert torch.equal(q8_0(x), expected)


@pytest.mark.parametrize("has_outliers", [False, True], ids=["normal", "outliers"])
@torch.inference_mode()
def test_logits_err_less_than_q8_0s(has_outliers: bool) -> None:
    ours, theirs = list[float](), list[float]()
    for seed in range(3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = Decoder(CONFIG).eval()
            token_ids = torch.randint(0, CONFIG.vocab_size, (24, 16))
        if has_outliers:
            widen(decoder, torch.Generator().manual_seed(seed))
        native = computer(decoder, "int8", blocks=24)
        got = native.compute(Step((), tuple(Chunk(row.tolist(), 0, (n,), True) for n, row in enumerate(token_ids))))
        expected = decoder(token_ids)[:, -1]
        quantise(decoder)
        ours.append(rms(got - expected))
        theirs.append(rms(decoder(token_ids)[:, -1] - expected))
    assert 0 < sum(ours) < sum(theirs)
