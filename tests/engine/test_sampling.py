"""Choices from logits: equal to a reference in plain Python, whatever the neighbours, and as frequent as likely."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from asterism.workers.engine.sampler import Sampler
from asterism.workers.engine.sampling import SORTED_TOKENS, choose_tokens
from asterism.workers.engine.seam import GenerationRequest
from tests.engine.reference_sampling import choose, scored, weighted

ASK = GenerationRequest(id="a", prompt="p", max_tokens=1)


class Only:
    """A constraint that always allows the same tokens, and remembers what it was told."""

    def __init__(self, allowed: Sequence[int]) -> None:
        self._allowed = list(allowed)
        self.accepted: list[int] = []

    def allowed(self, tokens: int) -> NDArray[np.bool_]:
        mask = np.zeros(tokens, dtype=np.bool_)
        mask[self._allowed] = True
        return mask

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)


def sampler(
    request: GenerationRequest,
    *,
    prompt_ids: Sequence[int] = (),
    banned_ids: Sequence[int] = (),
    only: Only | None = None,
) -> Sampler:
    return Sampler(
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        min_p=request.min_p,
        repetition_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logprobs=request.logprobs,
        banned_ids=banned_ids,
        constraint=only,
        seed=request.seed,
        prompt_ids=prompt_ids,
    )


def rows(count: int, vocab: int, *, seed: int = 0, spread: float = 3.0) -> Tensor:
    return spread * torch.randn(count, vocab, generator=torch.Generator().manual_seed(seed))


requests = st.builds(
    replace,
    st.just(ASK),
    temperature=st.sampled_from([0.0, 0.2, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 1000]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.05, 0.6]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.7]),
    presence_penalty=st.sampled_from([0.0, 1.5, -0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.7, -0.2]),
    logprobs=st.sampled_from([None, 0, 3]),
    seed=st.integers(0, 2**32),
)


@given(request=requests, data=st.data())
def test_an_answer_equals_the_one_in_plain_python(request: GenerationRequest, data: st.DataObject) -> None:
    vocab = data.draw(st.integers(4, 30))
    ids = st.integers(0, vocab - 1)
    prompt_ids = data.draw(st.lists(ids, max_size=8))
    banned_ids = data.draw(st.lists(ids, max_size=2))
    allowed = data.draw(st.none() | st.lists(ids, min_size=3, max_size=vocab, unique=True))
    forbidden = {*banned_ids, *(set(range(vocab)) - set(range(vocab) if allowed is None else allowed))}
    only = None if allowed is None else Only(allowed)
    chooser = sampler(request, prompt_ids=prompt_ids, banned_ids=banned_ids, only=only)
    # Few different values, so that equal logits are common.
    grid = data.draw(st.sampled_from([0.25, 1.0, 2.0]))
    steps = (rows(6, vocab, seed=request.seed % 97) / grid).round() * grid
    draws = random.Random(request.seed)
    answer: list[int] = []

    for logits in steps:
        chosen = choose_tokens(logits[None], [chooser])
        if len(forbidden) == vocab:
            assert 0 in chosen.errors
            return
        (token_id,) = chosen.token_ids
        assert token_id == choose(
            logits.tolist(), request, draws, prompt_ids=prompt_ids, answer_ids=answer, forbidden=forbidden
        )
        answer.append(token_id)

    assert only is None or only.accepted == answer


@given(wanted=st.lists(requests, min_size=1, max_size=7), number=st.integers(0, 6))
def test_neighbours_change_nothing(wanted: list[GenerationRequest], number: int) -> None:
    number %= len(wanted)
    among, alone = [sampler(request) for request in wanted], sampler(wanted[number])
    for step in range(4):
        logits = rows(len(wanted), 40, seed=step)

        together = choose_tokens(logits, among)
        by_itself = choose_tokens(logits[number : number + 1].clone(), [alone])

        assert together.token_ids[number] == by_itself.token_ids[0]
        assert together.logprobs.get(number) == by_itself.logprobs.get(0)


@given(
    vocab=st.integers(SORTED_TOKENS + 1, 3 * SORTED_TOKENS),
    spread=st.sampled_from([0.0, 0.1, 2.0, 30.0]),
    top_p=st.floats(0.001, 0.999),
    top_k=st.sampled_from([0, 1, 1500]),
    seed=st.integers(0, 99),
)
def test_a_large_nucleus_equals_the_sorted_one(vocab: int, spread: float, top_p: float, top_k: int, seed: int) -> None:
    request = replace(ASK, temperature=1.0, top_p=top_p, top_k=top_k, seed=seed)
    logits = (rows(1, vocab, seed=seed, spread=spread) * 8).round() / 8

    chosen = choose_tokens(logits, [sampler(request)])

    # Sums in another order may put the end of the nucleus one token off, where it is reached within rounding.
    kept = [
        weighted(scored(logits[0].tolist(), request), replace(request, top_p=p)) for p in (top_p - 1e-12, top_p + 1e-12)
    ]
    assert chosen.token_ids[0] in kept[0] | kept[1]
    if len(kept[0]) == len(kept[1]):
        assert chosen.token_ids[0] == choose(logits[0].tolist(), request, random.Random(seed))


@pytest.mark.parametrize(
    "request_",
    [
        replace(ASK, temperature=1.0),
        replace(ASK, temperature=0.7, top_k=6),
        replace(ASK, temperature=1.4, top_p=0.8),
        replace(ASK, temperature=1.0, min_p=0.1),
        replace(ASK, temperature=0.9, top_k=9, top_p=0.9, min_p=0.02),
    ],
    ids=["temperature", "top_k", "top_p", "min_p", "all of them"],
)
def test_draws_are_as_frequent_as_they_are_likely(request_: GenerationRequest) -> None:
    draws, vocab = 20_000, 12
    logits = rows(1, vocab, seed=5, spread=1.0)
    chooser = sampler(request_)
    counts = [0] * vocab
    for _ in range(draws // 100):
        # The same sampler a hundred times: one draw after the other, row by row.
        for token_id in choose_tokens(logits.expand(100, vocab), [chooser] * 100).token_ids:
            counts[token_id] += 1

    weights = weighted(scored(logits[0].tolist(), request_), request_)
    whole = sum(weights.values())
    expected = {token_id: draws * weight / whole for token_id, weight in weights.items()}

    assert {token_id for token_id, count in enumerate(counts) if count} <= expected.keys()
    chi_square = sum((counts[token_id] - mean) ** 2 / mean for token_id, mean in expected.items())
    # 31.3 is the 0.1 % point at 11 degrees of freedom, the most there are here; the seed is fixed.
    assert chi_square < 31.3


def test_a_row_without_a_sampler_needs_none() -> None:
    logits = rows(3, 10)
    drawn = sampler(replace(ASK, temperature=1.0, seed=3))

    chosen = choose_tokens(logits, [None, drawn, Sampler()])

    assert len(chosen.token_ids) == 3
    assert chosen.token_ids[2] == int(logits[2].argmax())


def test_equal_logits_are_the_first_ones() -> None:
    logits = torch.zeros(2, 300)

    assert choose_tokens(logits, [Sampler(), Sampler(banned_ids=[0])]).token_ids == [0, 1]


def test_a_temperature_next_to_zero_is_greedy() -> None:
    logits = rows(1, 50)

    assert choose_tokens(logits, [Sampler(temperature=1e-300)]).token_ids == [int(logits.argmax())]


@given(vocab=st.sampled_from([5, 700, 3000]), seed=st.integers(0, 50), wanted=st.integers(0, 20))
def test_logprobs_are_those_of_the_model(vocab: int, seed: int, wanted: int) -> None:
    logits = rows(1, vocab, seed=seed)
    request = replace(ASK, temperature=2.0, top_k=3, presence_penalty=1.0, logprobs=wanted, seed=seed)

    chosen = choose_tokens(logits, [sampler(request, banned_ids=[1])])

    expected = torch.log_softmax(logits[0].double(), dim=-1)
    found = chosen.logprobs[0]
    assert found.token_id == chosen.token_ids[0]
    assert math.isclose(found.logprob, float(expected[found.token_id]), abs_tol=1e-9)
    best = expected.sort(descending=True, stable=True)
    assert [token_id for token_id, _ in found.likeliest] == best.indices[:wanted].tolist()
    assert all(math.isclose(logprob, float(expected[at]), abs_tol=1e-9) for at, logprob in found.likeliest)


def test_a_row_that_nothing_is_left_for_is_an_error_and_no_other_is() -> None:
    logits = rows(3, 6)
    stuck = Sampler(banned_ids=[2, 3], constraint=Only([2]), temperature=1.0)

    chosen = choose_tokens(logits, [Sampler(temperature=1.0), stuck, Sampler()])

    assert chosen.errors.keys() == {1}
    assert chosen.token_ids[2] == int(logits[2].argmax())


class Panic(BaseException):
    """What a library in Rust raises where it gives up."""


class Broken(Only):
    """A constraint that fails when it is asked, or told, for the n-th time."""

    def __init__(self, allowed: Sequence[int], *, ask: int = 1000, tell: int = 1000) -> None:
        super().__init__(allowed)
        self._ask, self._tell = ask, tell

    def allowed(self, tokens: int) -> NDArray[np.bool_]:
        self._ask -= 1
        if self._ask == 0:
            raise Panic("no more masks")
        return super().allowed(tokens)

    def accept(self, token_id: int) -> None:
        self._tell -= 1
        if self._tell == 0:
            raise ValueError("not that one")
        super().accept(token_id)


@pytest.mark.parametrize("kind", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_row_that_fails_is_an_error_and_others_choose_as_without_it(kind: str) -> None:
    def others() -> list[Sampler]:
        drawn = replace(ASK, temperature=1.0, logprobs=2)
        return [Sampler(), sampler(replace(drawn, seed=5)), sampler(drawn, only=Only([1, 2, 4]))]

    alone, among = others(), others()
    panics = sampler(replace(ASK, temperature=1.0, logprobs=2), only=Broken([1, 2], ask=2))
    refuses = sampler(replace(ASK, logprobs=2), only=Broken([1, 2], tell=2))
    mixed = [among[0], panics, among[1], refuses, among[2]]
    for step in range(3):
        logits = rows(5, 6, seed=step).to(kind)
        expected = choose_tokens(logits[[0, 2, 4]], alone)

        chosen = choose_tokens(logits, mixed)

        assert [chosen.token_ids[row] for row in (0, 2, 4)] == expected.token_ids
        assert [chosen.logprobs[row] for row in (2, 4)] == [expected.logprobs[row] for row in (1, 2)]
        failed = {1: "Panic: no more masks", 3: "ValueError: not that one"}
        assert chosen.errors == (failed if step == 1 else {})
        assert chosen.logprobs.keys() == ({2, 4} if step == 1 else {1, 2, 3, 4})


def test_a_long_answer_is_counted_whole() -> None:
    request = replace(ASK, frequency_penalty=0.01)
    chooser = sampler(request)
    answer: list[int] = []
    for step in range(200):
        logits = rows(1, 300, seed=step, spread=0.01)
        (token_id,) = choose_tokens(logits, [chooser]).token_ids
        assert token_id == choose(logits[0].tolist(), request, random.Random(0), answer_ids=answer)
        answer.append(token_id)
    assert len(set(answer)) > 64
