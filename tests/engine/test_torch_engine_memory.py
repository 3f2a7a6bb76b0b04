"""What the torch engine does with its KV memory: shares, keeps, gives up and counts it."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tokenizers import Tokenizer, decoders, models

from asterism.workers.engine.answer_memo import AnswerMemo, Decoded, prompt_key
from asterism.workers.engine.computer import StepComputer, make_computer
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.metrics import BOUNDS, TokenMeter
from asterism.workers.engine.seam import GenerationEnd, GenerationRequest
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.computers import COMPUTERS, Pace
from tests.engine.conftest import Collect, random_decoder

ASK = GenerationRequest(id="a", prompt="once upon a time", max_tokens=40)


@pytest_asyncio.fixture
async def roomy(tiny_model: ModelFolder) -> AsyncIterator[TorchEngine]:
    engine = TorchEngine(tiny_model, max_sequences=8)
    await engine.start()
    yield engine
    await engine.close()


@pytest_asyncio.fixture
async def small(tiny_model: ModelFolder) -> AsyncIterator[TorchEngine]:
    """Six blocks of 16 tokens."""
    engine = TorchEngine(tiny_model, max_sequences=8, kv_blocks=6)
    await engine.start()
    yield engine
    await engine.close()


@pytest.mark.parametrize("kind", COMPUTERS)
async def test_a_small_memory_gives_the_same_tokens(tiny_model: ModelFolder, collect: Collect, kind: str) -> None:
    requests = [
        replace(ASK, id=f"{n}", prompt=f"{n} is a story", temperature=0.9, seed=n, max_tokens=60) for n in range(5)
    ]
    texts, preemptions = [], []
    for blocks in (100, 6):
        engine = TorchEngine(tiny_model, max_sequences=8, kv_blocks=blocks, make_computer=COMPUTERS[kind])
        await engine.start()
        answers = await collect(engine, requests)
        texts.append({name: text for name, (text, _) in answers.items()})
        preemptions.append(engine.stats().num_preemptions)
        await engine.close()
    assert texts[0] == texts[1]
    assert preemptions[0] == 0 < preemptions[1]


async def test_who_comes_first_by_priority_ends_first(small: TorchEngine, collect: Collect) -> None:
    requests = [replace(ASK, id=f"{n}", prompt=f"{n} is a story", priority=n, max_tokens=60) for n in range(4)]
    ends = [event.request_id async for event in small.generate(requests) if isinstance(event, GenerationEnd)]
    assert ends[0] == "3"
    assert ends[-1] == "0"


async def test_a_kept_prefix_is_found_after_others_needed_room(small: TorchEngine, collect: Collect) -> None:
    for kept, found in ((60.0, 14), (0.0, 0)):
        prompt = f"{kept:g} seconds kept"
        await collect(small, [replace(ASK, prompt=prompt, max_tokens=0, keep_s=kept)])
        for n in range(3):
            await collect(small, [replace(ASK, id=f"{n}", prompt=f"{n}{n} other", max_tokens=50)])
        _, end = (await collect(small, [replace(ASK, prompt=prompt, max_tokens=1)]))["a"]
        assert end.cached_tokens == found


async def test_what_a_cancelled_request_computed_is_kept_too(tiny_model: ModelFolder, collect: Collect) -> None:
    pace = Pace()
    engine = TorchEngine(tiny_model, max_sequences=2, kv_blocks=6, make_computer=pace.slow(make_computer))
    await engine.start()
    kept = replace(ASK, prompt="60 seconds kept", max_tokens=60, keep_s=60.0)
    asking = asyncio.ensure_future(collect(engine, [kept]))
    await pace.allow(3)
    await engine.cancel(["a"])
    pace.end()
    assert (await asking)["a"][1].finish_reason == "cancelled"
    for n in range(3):
        await collect(engine, [replace(ASK, id=f"{n}", prompt=f"{n}{n} other", max_tokens=50)])
    _, end = (await collect(engine, [replace(kept, keep_s=0.0, max_tokens=1)]))["a"]
    await engine.close()
    assert end.cached_tokens == len("60 seconds kept") - 1


async def test_a_request_that_can_never_fit_is_refused(small: TorchEngine) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await anext(small.generate([replace(ASK, max_tokens=82)]))
    assert refused.value.field == "max_tokens"
    async with aclosing(small.generate([replace(ASK, max_tokens=81)])) as events:
        await anext(events)


async def test_a_cancelled_request_frees_its_blocks_within_two_steps(tiny_model: ModelFolder) -> None:
    pace = Pace()
    engine = TorchEngine(tiny_model, max_sequences=2, kv_blocks=20, make_computer=pace.slow(make_computer))
    await engine.start()
    short = replace(ASK, id="short", prompt="9", max_tokens=3)
    async with aclosing(engine.generate([replace(ASK, prompt="long " * 20, max_tokens=90), short])) as events:
        pending = asyncio.ensure_future(anext(events))
        await pace.allow(3)
        while not isinstance(event := await pending, GenerationEnd):
            pending = asyncio.ensure_future(anext(events))
        assert event.request_id == "short"
        stats = engine.stats()
        assert (stats.num_steps, stats.kv_cache_usage) == (3, 7 / 20)
        await engine.cancel(["a"])
        pace.end()
        while not isinstance(event := await anext(events), GenerationEnd):
            pass
    assert event.finish_reason == "cancelled"
    assert engine.stats().kv_cache_usage == 0
    assert engine.stats().num_steps <= stats.num_steps + 2
    assert engine.stats().num_cancelled == 1
    assert engine.stats().cancel_steps_max <= 2
    await engine.close()


async def test_stats_count_what_happened(roomy: TorchEngine, collect: Collect) -> None:
    prompt = "a prefix that is longer than a block "
    answers = await collect(roomy, [replace(ASK, id=f"{n}", prompt=f"{prompt}{n}", max_tokens=10) for n in range(3)])
    stats = roomy.stats()
    ends = [end for _, end in answers.values()]
    assert stats.generation_tokens == sum(end.tokens for end in ends) == 30
    assert stats.prefix_cache_queries == sum(end.prompt_tokens for end in ends)
    assert stats.prefix_cache_hits == sum(end.cached_tokens for end in ends) >= 2 * len(prompt)
    assert stats.time_to_first_token.count == 3
    assert stats.inter_token_latency.count == 27
    assert stats.time_to_first_token.sum_s > 0
    assert stats.num_steps >= 11


async def test_the_computer_is_made_in_the_thread_that_uses_it(tiny_model: ModelFolder, collect: Collect) -> None:
    made: list[str] = []

    def make(
        decoder: Decoder, *, blocks: int, context_tokens: int, max_sequences: int, os_threads: int, device: str
    ) -> StepComputer:
        made.append(threading.current_thread().name)
        return make_computer(
            decoder,
            blocks=blocks,
            context_tokens=context_tokens,
            max_sequences=max_sequences,
            os_threads=os_threads,
            device=device,
        )

    engine = TorchEngine(tiny_model, make_computer=make)
    await engine.start()
    await collect(engine, [ASK])
    await engine.close()
    assert made == ["engine-tiny"]


async def test_a_computer_that_cannot_be_made_fails_the_start(tiny_model: ModelFolder) -> None:
    def make(
        decoder: Decoder, *, blocks: int, context_tokens: int, max_sequences: int, os_threads: int, device: str
    ) -> StepComputer:
        raise MemoryError("no room")

    engine = TorchEngine(tiny_model, make_computer=make)
    with pytest.raises(MemoryError, match="no room"):
        await engine.start()
    await engine.close()


ENDS_EARLY = """
import asyncio
import sys
import threading

from asterism.workers.engine.computer import make_computer
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.seam import GenerationRequest
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.conftest import character_tokenizer, random_decoder

has_begun = threading.Event()


class Watched:
    def __init__(self, computer):
        self.blocks, self.computer = computer.blocks, computer

    def compute(self, step):
        has_begun.set()
        return self.computer.compute(step)


async def main():
    decoder = random_decoder(1, hidden_size=512, intermediate_size=2048, num_hidden_layers=8)
    engine = TorchEngine(
        ModelFolder("tiny", decoder, character_tokenizer()),
        make_computer=lambda *args, **options: Watched(make_computer(*args, **options)),
    )
    await engine.start()
    asking = asyncio.ensure_future(anext(engine.generate([GenerationRequest(id="a", prompt="a" * 900, max_tokens=9)])))
    await asyncio.to_thread(has_begun.wait)
    sys.exit(3)


asyncio.run(main())
"""


def test_a_process_may_end_while_its_engine_computes() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDS_EARLY], cwd=Path(__file__).parents[2], capture_output=True)
    assert (ended.returncode, ended.stderr) == (3, b"")


PAIRS = ("a", "b", "ab", "ba", "aab", "bb")


def pair_model() -> ModelFolder:
    """Texts have many ways to be cut into tokens, and the tokenizer knows one of them."""
    merges = [("a", "b"), ("b", "a"), ("a", "ab"), ("b", "b")]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(PAIRS)}, merges))
    tokenizer.decoder = decoders.Fuse()
    return ModelFolder("pairs", random_decoder(5, vocab_size=len(PAIRS)), tokenizer)


@pytest.mark.parametrize("stop", [(), ("bba",)], ids=["to the length", "to a stop string"])
async def test_the_text_of_an_answer_is_found_under_the_ids_that_it_decoded(
    collect: Collect, stop: tuple[str, ...]
) -> None:
    model = pair_model()
    engine = TorchEngine(model)
    await engine.start()
    differs = 0
    for seed in range(12):
        request = GenerationRequest(id="a", prompt=("ab", "ba"), max_tokens=40, temperature=1.5, seed=seed, stop=stop)
        text, end = (await collect(engine, [request]))["a"]
        decoded = end.tokens
        if end.finish_reason == "stop":
            # Cut at the border of a token, the ids up to it are known; otherwise the text is tokenised anew.
            decoded = 0
        differs += len(model.tokenizer.encode(text).ids) != decoded
        _, joined = (await collect(engine, [replace(request, prompt=("ab", "ba", text, "a"), max_tokens=1)]))["a"]
        if decoded:
            assert joined.prompt_tokens == end.prompt_tokens + decoded + 1
            assert joined.cached_tokens == end.prompt_tokens + decoded - 1
    await engine.close()
    assert differs


async def test_a_text_that_was_said_before_is_read_as_ever_behind_another_prompt(collect: Collect) -> None:
    """Whatever the engine answered before, a prompt means the same tokens."""
    model = pair_model()
    ask = GenerationRequest(id="a", prompt=("ab", "ba"), max_tokens=40, temperature=1.5, logprobs=1)
    engine = TorchEngine(model)
    await engine.start()
    said, differs = list[str](), 0
    for seed in range(6):
        text, end = (await collect(engine, [replace(ask, seed=seed)]))["a"]
        differs += len(model.tokenizer.encode(text).ids) != end.tokens
        said.append(text)
    # Behind another prompt, one of as many tokens among them, and behind an answer.
    later = [
        replace(ask, id=f"{start} {number}", prompt=(*start, text, "a"), max_tokens=8)
        for number, text in enumerate(said)
        for start in (("b",), ("ba", "ab"), ("ab", "ba", "b", said[number - 1]))
    ]
    answers = await collect(engine, later)
    await engine.close()
    assert differs

    fresh = TorchEngine(model)
    await fresh.start()
    expected = await collect(fresh, later)
    await fresh.close()
    for name, (text, end) in answers.items():
        assert (text, end.prompt_tokens) == (expected[name][0], expected[name][1].prompt_tokens)


async def test_an_answer_to_an_answer_is_found_under_its_ids(collect: Collect) -> None:
    model = pair_model()
    engine = TorchEngine(model)
    await engine.start()
    ask = GenerationRequest(id="a", prompt=("ab", "ba"), max_tokens=20, temperature=1.5)
    segments, tokens = ["ab", "ba"], 2
    for seed in range(8):
        text, end = (await collect(engine, [replace(ask, prompt=tuple(segments), seed=seed)]))["a"]
        assert end.prompt_tokens == tokens
        assert end.cached_tokens == (tokens - 2 if seed else 0)
        segments, tokens = [*segments, text, "b"], tokens + end.tokens + 1
    await engine.close()
    assert len(model.tokenizer.encode("".join(segments)).ids) != tokens


def test_the_memo_knows_an_answer_behind_its_prompt_only() -> None:
    memo = AnswerMemo()
    memo.remember(Decoded(prompt_key([1, 2]), "said", [7, 8]))
    assert memo.knows("said")
    assert memo.find([1, 2], "said") == (7, 8)
    assert memo.find([2, 1], "said") is memo.find([1, 2, 3], "said") is memo.find([1, 2], "else") is None
    assert not memo.knows("else")


def test_the_memo_forgets_what_was_not_used_for_longest() -> None:
    memo = AnswerMemo(max_ids=10)

    def remember(text: str, ids: list[int]) -> None:
        memo.remember(Decoded(prompt_key([5]), text, ids))

    remember("one", [1] * 4)
    remember("two", [2] * 4)
    assert memo.find([5], "one") == (1, 1, 1, 1)
    remember("three", [3] * 4)
    assert memo.find([5], "two") is None
    assert not memo.knows("two")
    assert memo.find([5], "one") == (1, 1, 1, 1)
    remember("one", [9])
    remember("four", [4] * 5)
    assert memo.find([5], "one") == (9,)
    assert memo.find([5], "three") == (3, 3, 3, 3)
    remember("too long", [1] * 11)
    assert not any(map(memo.knows, ("one", "three", "four", "too long")))


def test_seconds_are_counted_under_the_bound_that_they_reach() -> None:
    meter = TokenMeter()
    meter.add(since=1.0, now=1.0 + BOUNDS[0] / 2, is_first=True)
    meter.add(since=1.0, now=500.0, is_first=False)
    assert meter.first.snapshot().counts[0] == 1
    assert meter.next.snapshot().counts[-1] == 1
    assert meter.next.snapshot().sum_s == 499.0
    assert meter.generation_tokens == 2
