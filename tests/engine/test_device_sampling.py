"""Choosing for all rows at once, as on a GPU: the tokens of the reference, or draws as frequent as it says."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.workers.engine.device_sampling import SELECTED_TOKENS, choose_rows, logprobs_of
from asterism.workers.engine.sampler import Sampler
from asterism.workers.engine.sampling import choose_tokens
from asterism.workers.engine.seam import GenerationRequest
from tests.engine.reference_sampling import choose, scored, weighted
from tests.engine.test_sampling import ASK, Only, requests, rows, sampler


def chosen_rows(logits: Tensor, samplers: Sequence[Sampler]) -> list[int | None]:
    masks = [None if each.constraint is None else each.constraint.allowed(logits.shape[1]) for each in samplers]
    return choose_rows(logits, samplers, masks)


@settings(deadline=None)
@given(asked=st.lists(requests, min_size=1, max_size=6), vocab=st.integers(4, 40), seed=st.integers(0, 999))
def test_every_row_equals_the_reference(asked: list[GenerationRequest], vocab: int, seed: int) -> None:
    chance = random.Random(seed)
    prompts = [[chance.randrange(vocab) for _ in range(5)] for _ in asked]
    banned = [[chance.randrange(vocab)] if chance.random() < 0.5 else [] for _ in asked]
    allowed = [chance.sample(range(vocab), 3) if chance.random() < 0.3 else None for _ in asked]
    choosers = [
        sampler(request, prompt_ids=prompt, banned_ids=ban, only=None if only is None else Only(only))
        for request, prompt, ban, only in zip(asked, prompts, banned, allowed, strict=True)
    ]
    answers: list[list[int]] = [[] for _ in asked]
    for step in range(3):
        logits = rows(len(asked), vocab, seed=1000 * step + seed)

        chosen = chosen_rows(logits.clone(), choosers)

        for row, token_id in enumerate(chosen):
            forbidden = set(banned[row]) | set(() if (only := allowed[row]) is None else set(range(vocab)) - set(only))
            kept = scored(
                logits[row].tolist(), asked[row], prompt_ids=prompts[row], answer_ids=answers[row], forbidden=forbidden
            )
            assert token_id is not None
            if asked[row].temperature == 0:
                assert kept[token_id] == pytest.approx(max(kept.values()), rel=1e-5, abs=1e-5)
            else:
                # One token off where a threshold is met within rounding.
                loose = replace(asked[row], min_p=asked[row].min_p * 0.999, top_p=min(1.0, asked[row].top_p * 1.001))
                assert token_id in weighted(kept, loose)
            choosers[row].accept(token_id)
            answers[row].append(token_id)


def test_without_cuts_it_draws_what_the_cpu_draws() -> None:
    request = replace(ASK, temperature=1.1, presence_penalty=0.5)
    there, here = ([sampler(replace(request, seed=seed)) for seed in range(40)] for _ in range(2))
    logits = rows(40, 500)

    assert chosen_rows(logits.clone(), there) == choose_tokens(logits, here).token_ids


@pytest.mark.parametrize(
    "request_",
    [
        replace(ASK, temperature=0.7, top_k=6),
        replace(ASK, temperature=1.4, top_p=0.8),
        replace(ASK, temperature=1.0, min_p=0.1),
        replace(ASK, temperature=0.9, top_k=9, top_p=0.9, min_p=0.02),
    ],
    ids=["top_k", "top_p", "min_p", "all of them"],
)
def test_draws_are_as_frequent_as_they_are_likely(request_: GenerationRequest) -> None:
    draws, vocab = 10_000, 12
    logits = rows(1, vocab, seed=5, spread=1.0)
    chooser = sampler(request_)
    counts = [0] * vocab
    for _ in range(draws // 100):
        for token_id in chosen_rows(logits.repeat(100, 1), [chooser] * 100):
            assert token_id is not None
            counts[token_id] += 1

    weights = weighted(scored(logits[0].tolist(), request_), request_)
    expected = {token_id: draws * weight / sum(weights.values()) for token_id, weight in weights.items()}
    assert {token_id for token_id, count in enumerate(counts) if count} <= expected.keys()
    # The 0.1 % point at 11 degrees of freedom; the seed is fixed.
    assert sum((counts[token_id] - mean) ** 2 / mean for token_id, mean in expected.items()) < 31.3


@pytest.mark.parametrize("top_k", [5, SELECTED_TOKENS + 1])
def test_a_selected_top_is_the_sorted_one(top_k: int) -> None:
    request = replace(ASK, temperature=1.0, top_k=top_k, top_p=0.99)
    logits = rows(1, 3000, spread=0.5)
    likely = set(logits[0].sort(descending=True).indices[:top_k].tolist())

    chosen = chosen_rows(logits.repeat(200, 1), [sampler(replace(request, seed=seed)) for seed in range(200)])

    assert set(chosen) <= likely
    assert len(set(chosen)) > 1


@pytest.mark.parametrize("temperature", [1e-30, 1e-50, 5e-324])
def test_a_temperature_next_to_zero_is_greedy(temperature: float) -> None:
    logits = rows(3, 50)
    choosers = [sampler(replace(ASK, temperature=temperature, top_p=top_p)) for top_p in (1.0, 0.9, 0.5)]
    assert chosen_rows(logits.clone(), choosers) == logits.argmax(dim=-1).tolist()


def test_a_row_without_a_token_left_is_none() -> None:
    stuck = sampler(replace(ASK, temperature=1.0, top_k=3), banned_ids=[2], only=Only([2]))
    fine = sampler(replace(ASK, temperature=1.0))

    chosen = chosen_rows(rows(2, 9), [stuck, fine])

    assert chosen[0] is None
    assert chosen[1] == choose(rows(2, 9)[1].tolist(), replace(ASK, temperature=1.0), random.Random(0))


def test_logprobs_are_those_of_the_model() -> None:
    (logits,) = rows(1, 50)
    expected = logits.double().log_softmax(dim=-1)

    logprob, likeliest = logprobs_of(logits, 7, 3)

    assert logprob == pytest.approx(float(expected[7]))
    assert [token_id for token_id, _ in likeliest] == expected.topk(3).indices.tolist()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_chooses_what_the_cpu_chooses() -> None:
    asked = [
        ASK,
        replace(ASK, temperature=1.0, logprobs=4),
        replace(ASK, repetition_penalty=1.3, frequency_penalty=0.5),
        replace(ASK, temperature=0.8, top_k=1),
    ]
    there, here = ([sampler(request, prompt_ids=range(40)) for request in asked] for _ in range(2))
    for step in range(20):
        logits = rows(len(asked), 1000, seed=step)

        on_gpu, on_cpu = choose_tokens(logits.cuda(), there), choose_tokens(logits, here)

        assert on_gpu.token_ids == on_cpu.token_ids
        assert on_gpu.logprobs[1].logprob == pytest.approx(on_cpu.logprobs[1].logprob, abs=1e-5)
