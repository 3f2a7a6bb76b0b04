"""The torch engine gives, token by token, what the model gives without a cache, a batch or a neighbour."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
import torch

from asterism.workers.engine.computer import StepComputer, make_computer
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.seam import GenerationRequest, prompt_text
from asterism.workers.engine.step import Step
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.computers import COMPUTERS, Pace
from tests.engine.conftest import CHARACTERS, Collect, character_tokenizer, random_decoder
from tests.engine.reference_sampling import choose

GREEDY = GenerationRequest(id="greedy", prompt="0", max_tokens=20)
SAMPLED = replace(GREEDY, id="sampled", temperature=1.3, seed=11)
NUCLEUS = replace(SAMPLED, id="nucleus", top_p=0.7)


@torch.inference_mode()
def reference_text(decoder: Decoder, request: GenerationRequest) -> str:
    """The whole sequence is computed again for each token."""
    token_ids = [CHARACTERS.index(character) for character in request.prompt]
    draws = random.Random(request.seed)
    for _ in range(request.max_tokens):
        token_ids.append(choose(decoder(torch.tensor([token_ids]))[0, -1].tolist(), request, draws))
    return "".join(CHARACTERS[token_id] for token_id in token_ids[len(request.prompt) :])


@pytest_asyncio.fixture(params=COMPUTERS)
async def engine(request: pytest.FixtureRequest, tiny_model: ModelFolder) -> AsyncIterator[TorchEngine]:
    engine = TorchEngine(tiny_model, max_sequences=5, make_computer=COMPUTERS[request.param])
    await engine.start()
    yield engine
    await engine.close()


@pytest.mark.parametrize("request_", [GREEDY, SAMPLED, NUCLEUS], ids=lambda request: request.id)
@pytest.mark.parametrize("length", [1, 5, 700], ids=["one token", "short", "longer than a prefill"])
async def test_a_single_request(
    engine: TorchEngine, tiny_model: ModelFolder, collect: Collect, request_: GenerationRequest, length: int
) -> None:
    request = replace(request_, prompt="".join(random.Random(length).choices(CHARACTERS[1:27], k=length)))
    text, _ = (await collect(engine, [request]))[request.id]
    assert text == reference_text(tiny_model.decoder, request)


async def test_a_batch_of_unlike_requests(engine: TorchEngine, tiny_model: ModelFolder, collect: Collect) -> None:
    rng = random.Random(5)
    requests = [
        replace(
            rng.choice((GREEDY, SAMPLED, NUCLEUS)),
            id=f"{n}",
            prompt="".join(rng.choices(CHARACTERS[1:], k=rng.choice((1, 8, 90)))).replace(" ", "x"),
            max_tokens=rng.randrange(1, 30),
            seed=n,
        )
        for n in range(14)
    ]
    answers = await collect(engine, requests)
    for request in requests:
        assert answers[request.id][0] == reference_text(tiny_model.decoder, request)


async def test_a_fork_and_its_join(engine: TorchEngine, tiny_model: ModelFolder, collect: Collect) -> None:
    prefix = "numbers 4 6 8 3 to 24 by one of these beginnings "
    requests = [replace(SAMPLED, id=f"{n}", prompt=f"{prefix}thread {n}", seed=n, max_tokens=9 + n) for n in range(9)]
    requests[3] = replace(requests[3], temperature=0.0)
    answers = await collect(engine, requests)
    for request in requests:
        text, end = answers[request.id]
        assert text == reference_text(tiny_model.decoder, request)
        assert end.cached_tokens >= (0 if request.id == "0" else len(prefix) + len("thread "))
    winner = requests[6]
    join = replace(GREEDY, id="join", prompt=prompt_text(winner.prompt) + answers["6"][0] + " done")
    text, end = (await collect(engine, [join]))["join"]
    assert text == reference_text(tiny_model.decoder, join)
    # The winner's last token was chosen, but nothing followed it: its KV was never needed.
    assert end.cached_tokens == len(winner.prompt) + len(answers["6"][0]) - 1


@pytest.mark.parametrize("kind", COMPUTERS)
async def test_requests_that_join_a_running_batch(tiny_model: ModelFolder, collect: Collect, kind: str) -> None:
    long = replace(SAMPLED, id="long", prompt="this one is there first", max_tokens=120)
    late = [replace(NUCLEUS, id=f"late {n}", prompt=f"this one is late by {n}", seed=n) for n in range(4)]
    pace = Pace()
    engine = TorchEngine(tiny_model, max_sequences=5, make_computer=pace.slow(COMPUTERS[kind]))
    await engine.start()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(collect(engine, [long]))]
        for n in range(2):
            await pace.allow(20)
            calls.append(group.create_task(collect(engine, late[2 * n : 2 * n + 2])))
        pace.end()
    await engine.close()
    for request in (long, *late):
        (text,) = (answers[request.id][0] for call in calls if request.id in (answers := call.result()))
        assert text == reference_text(tiny_model.decoder, request)


async def test_the_end_of_text_id_ends_a_request(tiny_model: ModelFolder, collect: Collect) -> None:
    text = reference_text(tiny_model.decoder, replace(GREEDY, prompt="where does it end"))
    last = next(character for character in text if text.index(character) >= 4)
    ending = random_decoder(seed=1, eos_token_ids=(CHARACTERS.index(last),))
    engine = TorchEngine(ModelFolder("ending", ending, character_tokenizer()))
    await engine.start()
    said, end = (await collect(engine, [replace(GREEDY, prompt="where does it end")]))["greedy"]
    await engine.close()
    assert said == text[: text.index(last)]
    assert (end.finish_reason, end.tokens) == ("end", len(said) + 1)


async def test_a_word_unknown_to_the_model_is_refused(engine: TorchEngine) -> None:
    with pytest.raises(InvalidRequest, match=r"'\$', which the model has no token for"):
        await anext(engine.generate([replace(GREEDY, prompt="costs 5 $ each")]))


async def test_an_error_in_a_step_ends_its_requests_and_not_the_engine(
    tiny_model: ModelFolder, collect: Collect
) -> None:
    # The tokenizer has more tokens than the model (a folder like this does not load), so a step fails on a lookup.
    broken = random_decoder(seed=1, vocab_size=20)
    engine = TorchEngine(ModelFolder("broken", broken, character_tokenizer()))
    await engine.start()
    answers = await collect(engine, [replace(GREEDY, id="bad", prompt="zebra 99")])
    fine = await collect(engine, [replace(GREEDY, id="good", prompt="abc")])
    await engine.close()
    assert answers["bad"][1].finish_reason == "error"
    assert answers["bad"][1].error
    assert fine["good"][1].finish_reason == "length"


class CountedTokenizer:
    """A tokenizer that knows what it read."""

    def __init__(self) -> None:
        self._tokenizer = character_tokenizer()
        self.read: list[str] = []

    def encode(self, text: str, **options: Any) -> Any:
        self.read.append(text)
        return self._tokenizer.encode(text, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


async def test_what_the_threads_of_a_fork_share_is_tokenised_once(tiny_model: ModelFolder, collect: Collect) -> None:
    tokenizer = CountedTokenizer()
    engine = TorchEngine(replace(tiny_model, tokenizer=tokenizer))  # type: ignore[arg-type]
    await engine.start()
    tokenizer.read.clear()  # what the engine reads to know the tokenizer
    prefix = "the parent said many things"
    threads = [replace(GREEDY, id=f"{n}", prompt=(prefix, f" thread {n}", " so"), max_tokens=2) for n in range(5)]
    answers = await collect(engine, [*threads, replace(GREEDY, id="text", prompt=prefix)])
    await collect(engine, [replace(GREEDY, id="later", prompt=(prefix, " thread 0", " then"), max_tokens=2)])
    await engine.close()
    assert tokenizer.read.pop() == " then"
    assert sorted(tokenizer.read) == sorted([prefix, *(f" thread {n}" for n in range(5)), " so"])
    assert {answers[f"{n}"][1].prompt_tokens for n in range(5)} == {len(prefix) + len(" thread 0 so")}


class Panic(BaseException):
    """What a library in Rust raises where it gives up."""


class PanickyComputer:
    """Panics at its first step."""

    def __init__(self, computer: StepComputer) -> None:
        self._computer = computer
        self._steps = 0

    @property
    def blocks(self) -> int:
        return self._computer.blocks

    def compute(self, step: Step) -> torch.Tensor:
        self._steps += 1
        if self._steps == 1:
            raise Panic("at the disco")
        return self._computer.compute(step)


async def test_a_panic_in_a_step_ends_its_requests_and_not_the_engine(
    tiny_model: ModelFolder, collect: Collect
) -> None:
    def make(*args: Any, **options: Any) -> StepComputer:
        return PanickyComputer(make_computer(*args, **options))

    engine = TorchEngine(tiny_model, make_computer=make)
    await engine.start()
    first = (await collect(engine, [GREEDY]))["greedy"][1]
    second = (await collect(engine, [GREEDY]))["greedy"][1]
    await engine.close()
    assert (first.finish_reason, first.error) == ("error", "Panic: at the disco")
    assert second.finish_reason == "length"
