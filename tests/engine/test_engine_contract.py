"""What every engine promises; each test runs against the scripted engine, the torch engine, and both behind HTTP."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio
from torch import Tensor

from asterism.workers.engine.computer import StepComputer, make_computer
from asterism.workers.engine.engine_thread import FLUSH_S
from asterism.workers.engine.errors import EngineClosed, InvalidRequest
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.http_call import ServerLimits
from asterism.workers.engine.http_engine import HttpEngine
from asterism.workers.engine.http_server import serving
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import Engine, GenerationChunk, GenerationEnd, GenerationRequest, Grammar, Message
from asterism.workers.engine.step import Step
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.conftest import Collect
from tests.engine.test_conversation import DIGITS, talk

pytestmark = pytest.mark.timeout(60)

MAX_SEQUENCES = 4
ENDLESS = 900
"""Tokens; an engine is never through with them before the test has acted."""
STEPS = 100
"""Of an engine that is held; a step gives one token, and the first news comes after a few."""


def recite(request: GenerationRequest) -> str:
    """Different words for every prompt and, above temperature 0, for every seed."""
    words = random.Random(f"{request.messages or request.prompt}/{request.seed if request.temperature else 'greedy'}")
    return "".join(f" {words.choice(('alpha', 'beta', 'gamma', 'delta'))}" for _ in range(2000))


def make(kind: str, model: ModelFolder) -> Engine:
    if kind == "scripted":
        return ScriptedEngine(recite, context_tokens=1024, max_sequences=MAX_SEQUENCES)
    return TorchEngine(replace(model, chat_template=DIGITS), max_sequences=MAX_SEQUENCES)


@pytest_asyncio.fixture(params=["scripted", "torch", "http to scripted", "http to torch"])
async def engine(request: pytest.FixtureRequest, tiny_model: ModelFolder) -> AsyncIterator[Engine]:
    kind: str = request.param
    behind = make(kind.removeprefix("http to "), tiny_model)
    await behind.start()
    if not kind.startswith("http"):
        yield behind
    else:
        async with serving({behind.profile.model: behind}) as url:
            engine = HttpEngine(url, limits=ServerLimits(max_sequences=MAX_SEQUENCES))
            await engine.start()
            yield engine
            await engine.close()
    await behind.close()


@dataclass
class Held:
    """An engine that after STEPS steps is far from ENDLESS tokens, and stays so however long nobody listens to it: 16 s
    where it only becomes slow."""

    engine: Engine
    let_go: Callable[[], None]
    """It may go on, where its `close` waits for a step."""


class HeldComputer:
    """The real computer, of whose steps some may happen and the others are slow: what is to be heard of the first ones
    is told within the time that one of the others takes."""

    def __init__(self, behind: StepComputer, may_go_on: threading.Event) -> None:
        self._behind = behind
        self._may_go_on = may_go_on
        self._steps = 0

    @property
    def blocks(self) -> int:
        return self._behind.blocks

    def compute(self, step: Step) -> Tensor:
        self._steps += 1
        if self._steps > STEPS:
            self._may_go_on.wait(FLUSH_S)
        return self._behind.compute(step)


@pytest_asyncio.fixture(params=["scripted", "torch", "http to scripted", "http to torch"])
async def held(request: pytest.FixtureRequest, tiny_model: ModelFolder) -> AsyncIterator[Held]:
    kind: str = request.param
    may_go_on = threading.Event()
    behind: Engine
    if kind.endswith("scripted"):
        behind = scripted = ScriptedEngine(recite, context_tokens=1024, max_sequences=MAX_SEQUENCES, paced=True)
        await scripted.allow(STEPS)
    else:
        behind = TorchEngine(
            tiny_model,
            max_sequences=MAX_SEQUENCES,
            make_computer=lambda *of, **how: HeldComputer(make_computer(*of, **how), may_go_on),
        )
    await behind.start()
    if not kind.startswith("http"):
        yield Held(behind, may_go_on.set)
    else:
        async with serving({behind.profile.model: behind}) as url:
            engine = HttpEngine(url, limits=ServerLimits(max_sequences=MAX_SEQUENCES))
            await engine.start()
            # Its `close` waits for nobody else's steps.
            yield Held(engine, lambda: None)
            await engine.close()
            may_go_on.set()
    may_go_on.set()
    await behind.close()


def ask(request_id: str, prompt: str = "once upon a time", max_tokens: int = 24) -> GenerationRequest:
    return GenerationRequest(id=request_id, prompt=prompt, max_tokens=max_tokens)


class TestEngine:
    async def test_a_request_ends_with_its_length(self, engine: Engine, collect: Collect) -> None:
        text, end = (await collect(engine, [ask("a", max_tokens=7)]))["a"]
        assert text
        assert (end.finish_reason, end.tokens, end.stop, end.error) == ("length", 7, None, None)
        assert end.prompt_tokens >= 4

    async def test_the_context_is_a_limit_too(self, engine: Engine, collect: Collect) -> None:
        _, end = (await collect(engine, [ask("a", max_tokens=10_000)]))["a"]
        assert end.finish_reason in {"length", "end"}
        assert end.prompt_tokens + end.tokens <= engine.profile.context_tokens

    async def test_stats_count_requests_and_tokens(self, engine: Engine, collect: Collect) -> None:
        before = engine.stats()
        assert (before.num_requests_running, before.generation_tokens) == (0, 0)
        ends = [end for _, end in (await collect(engine, [ask("a", max_tokens=7), ask("b", "another", 5)])).values()]
        stats = engine.stats()
        assert stats.num_requests_running == stats.num_requests_waiting == 0
        assert stats.generation_tokens == 12
        assert stats.prefix_cache_queries == sum(end.prompt_tokens for end in ends)
        assert stats.prefix_cache_hits == sum(end.cached_tokens for end in ends)

    async def test_no_tokens_are_wanted(self, engine: Engine, collect: Collect) -> None:
        text, end = (await collect(engine, [ask("a", max_tokens=0)]))["a"]
        assert (text, end.finish_reason, end.tokens, end.error) == ("", "length", 0, None)
        assert end.prompt_tokens >= 4
        _, again = (await collect(engine, [ask("b", max_tokens=3)]))["b"]
        assert again.cached_tokens >= end.prompt_tokens - 1

    async def test_every_token_has_a_logprob_where_they_are_asked_for(self, engine: Engine) -> None:
        events = [event async for event in engine.generate([replace(ask("a"), logprobs=2)])]
        chunks = [event for event in events if isinstance(event, GenerationChunk)]
        assert chunks
        for chunk in chunks:
            assert len(chunk.logprobs) == chunk.tokens
            for logprob in chunk.logprobs:
                assert logprob.logprob <= 0
                assert 1 <= len(logprob.likeliest) <= 2
                assert max(value for _, value in logprob.likeliest) >= logprob.logprob - 1e-6

    async def test_text_ends_before_a_stop_string_that_crosses_tokens(self, engine: Engine, collect: Collect) -> None:
        whole, _ = (await collect(engine, [ask("a", max_tokens=40)]))["a"]
        for start in range(3, 18, 3):
            stop = whole[start : start + 9]
            request = replace(ask("b", max_tokens=40), stop=("never said", stop))
            text, end = (await collect(engine, [request]))["b"]
            assert text == whole[: whole.index(stop)]
            assert (end.finish_reason, end.stop) == ("stop", stop)
            assert end.tokens < 40

    async def test_text_held_back_for_a_stop_string_is_said_at_the_end(self, engine: Engine, collect: Collect) -> None:
        whole, _ = (await collect(engine, [ask("a")]))["a"]
        text, end = (await collect(engine, [replace(ask("b"), stop=(whole[-6:] + "!",))]))["b"]
        assert (text, end.finish_reason) == (whole, "length")

    async def test_a_sampled_request_does_not_depend_on_its_neighbours(self, engine: Engine, collect: Collect) -> None:
        request = replace(ask("a", max_tokens=60), temperature=0.9, top_p=0.8, seed=7)
        alone = (await collect(engine, [request]))["a"]
        neighbours = [replace(request, id=f"n{n}", seed=n, top_p=1.0, max_tokens=5 * n) for n in range(1, 6)]
        among = (await collect(engine, [*neighbours, request]))["a"]
        assert among[0] == alone[0]

    async def test_seeds_choose_the_text(self, engine: Engine, collect: Collect) -> None:
        request = replace(ask("a", max_tokens=60), temperature=1.0)
        answers = await collect(engine, [replace(request, id=f"{seed}", seed=seed) for seed in range(6)])
        assert len({text for text, _ in answers.values()}) == 6

    async def test_greedy_ignores_the_seed(self, engine: Engine, collect: Collect) -> None:
        answers = await collect(engine, [ask("a"), replace(ask("b"), seed=9)])
        assert answers["a"][0] == answers["b"][0]

    async def test_a_shared_prefix_is_computed_once(self, engine: Engine, collect: Collect) -> None:
        prefix = "the parent said many things before it "
        answers = await collect(engine, [ask(f"{n}", prefix + f"thread {n}") for n in range(4)])
        cached = [end.cached_tokens for _, end in answers.values()]
        assert cached[0] == 0
        assert min(cached[1:]) >= 7
        text = answers["2"][0]
        _, end = (await collect(engine, [ask("join", prefix + "thread 2" + text + " 0")]))["join"]
        assert end.prompt_tokens > end.cached_tokens > max(cached)

    async def test_a_conversation_is_answered(self, engine: Engine, collect: Collect) -> None:
        request = GenerationRequest(id="a", messages=talk("be kind", "hello"), max_tokens=9)
        text, end = (await collect(engine, [request]))["a"]
        assert text
        assert (end.finish_reason, end.tokens, end.stop, end.error) == ("length", 9, None, None)
        assert end.prompt_tokens >= 3
        stopped, end = (await collect(engine, [replace(request, id="b", stop=(text[3:9],))]))["b"]
        assert (stopped, end.finish_reason, end.stop) == (text[: text.index(text[3:9])], "stop", text[3:9])

    async def test_a_later_turn_finds_the_earlier_ones(self, engine: Engine, collect: Collect) -> None:
        messages = talk("be kind", "hello")
        known = 0
        for turn in range(4):
            request = GenerationRequest(id=f"{turn}", messages=messages, max_tokens=9, temperature=1.0, seed=turn)
            text, end = (await collect(engine, [request]))[f"{turn}"]
            assert end.cached_tokens >= known - 1
            known = end.prompt_tokens + end.tokens
            messages = (*messages, Message("assistant", text), Message("user", f"and {turn}"))

    async def test_conversations_and_prompts_share_a_batch(self, engine: Engine, collect: Collect) -> None:
        chatting = GenerationRequest(id="chat", messages=talk("be kind", "hello"), max_tokens=9, logprobs=2)
        alone = await collect(engine, [chatting])
        among = await collect(engine, [ask("a"), chatting, ask("b", "another")])
        assert among["chat"][0] == alone["chat"][0]
        assert len(among) == 3

    async def test_more_requests_than_sequences_take_turns(self, engine: Engine, collect: Collect) -> None:
        answers = await collect(engine, [ask(f"{n}", f"prompt {n} of many") for n in range(3 * MAX_SEQUENCES)])
        assert {end.tokens for _, end in answers.values()} == {24}

    async def test_concurrent_calls_share_the_engine(self, engine: Engine, collect: Collect) -> None:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(collect(engine, [ask(f"{n}")])) for n in range(3)]
        assert len({call.result()[f"{n}"][0] for n, call in enumerate(calls)}) == 1

    async def test_cancel_ends_one_request_and_no_other(self, engine: Engine) -> None:
        ends: dict[str, GenerationEnd] = {}
        async for event in engine.generate([ask("a", max_tokens=ENDLESS), ask("b", "another one", max_tokens=200)]):
            if isinstance(event, GenerationChunk) and event.request_id == "a":
                await engine.cancel(["a", "unknown"])
            if isinstance(event, GenerationEnd):
                ends[event.request_id] = event
        assert ends["a"].finish_reason == "cancelled"
        assert ends["a"].tokens < ENDLESS
        assert (ends["b"].finish_reason, ends["b"].tokens) == ("length", 200)

    async def test_cancel_before_the_first_event_ends_one_request_and_no_other(
        self, engine: Engine, collect: Collect
    ) -> None:
        prefix = "the parent said many things before it "
        call = asyncio.ensure_future(
            collect(engine, [ask(f"{n}", f"{prefix}{n}", ENDLESS - 500 * n) for n in range(2)])
        )
        await asyncio.sleep(0)  # the call has begun, and nothing that it starts has
        await engine.cancel(["0"])
        answers = await call
        assert answers["0"][1].finish_reason == "cancelled"
        assert answers["1"][1].finish_reason == "length"

    async def test_closing_the_iterator_frees_the_request(self, engine: Engine, collect: Collect) -> None:
        for _ in range(2 * MAX_SEQUENCES):
            async with aclosing(engine.generate([ask("a", max_tokens=ENDLESS)])) as events:
                await anext(events)
        text, end = (await collect(engine, [ask("a")]))["a"]
        assert text
        assert end.finish_reason == "length"

    async def test_an_id_in_use_is_refused(self, engine: Engine) -> None:
        async with aclosing(engine.generate([ask("a", max_tokens=ENDLESS)])) as events:
            await anext(events)
            with pytest.raises(InvalidRequest) as refused:
                await anext(engine.generate([ask("b"), ask("a")]))
        assert refused.value.field == "id"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("id", ""),
            ("prompt", ""),
            ("prompt", "  \n"),
            ("prompt", "a b c " * 2000),
            ("messages", (Message("user", "hello"),)),
            ("max_tokens", -1),
            ("max_tokens", -3),
            ("temperature", -0.1),
            ("temperature", float("nan")),
            ("temperature", float("inf")),
            ("temperature", 10**400),
            ("top_p", 0.0),
            ("top_p", 1.1),
            ("top_p", float("nan")),
            ("top_k", -1),
            ("min_p", -0.1),
            ("min_p", 1.0),
            ("min_p", float("nan")),
            ("repetition_penalty", 0.0),
            ("repetition_penalty", float("inf")),
            ("repetition_penalty", 1e-308),
            ("repetition_penalty", 10**400),
            ("presence_penalty", 2.1),
            ("presence_penalty", float("nan")),
            ("frequency_penalty", -2.1),
            ("logprobs", -1),
            ("logprobs", 21),
            ("banned", ("",)),
            ("banned", ("x",) * 300),
            ("grammar", Grammar("regex", "")),
            ("grammar", Grammar("regex", "x" * 70_000)),
            ("keep_s", -1.0),
            ("keep_s", 3601.0),
            ("keep_s", float("nan")),
            ("stop", ("",)),
            ("stop", ("x" * 1000,)),
            ("stop", tuple("abcdefghijklmnopqrstuvwxyz")),
        ],
    )
    async def test_a_bad_request_is_refused_with_its_batch(self, engine: Engine, field: str, value: Any) -> None:
        bad = replace(ask("bad"), **{field: value})
        with pytest.raises(InvalidRequest) as refused:
            await anext(engine.generate([ask("good"), bad]))
        assert refused.value.field == field

    @pytest.mark.parametrize(
        "messages",
        [
            (Message("user", " \n"),),
            (Message("user", ""), Message("assistant", "")),
            (Message("tool", "x"),),  # type: ignore[arg-type]
            (Message("user", "x"),) * 5000,
        ],
    )
    async def test_a_bad_conversation_is_refused(self, engine: Engine, messages: tuple[Message, ...]) -> None:
        request = GenerationRequest(id="a", messages=messages, max_tokens=1)
        with pytest.raises(InvalidRequest) as refused:
            await anext(engine.generate([request]))
        assert refused.value.field == "messages"

    async def test_close_ends_what_is_live(self, held: Held) -> None:
        engine = held.engine
        events = engine.generate([ask("a", max_tokens=ENDLESS)])
        await anext(events)
        closing = asyncio.ensure_future(engine.close())
        await asyncio.sleep(0)  # it has told the engine
        held.let_go()
        await closing
        *_, last = [event async for event in events]
        assert isinstance(last, GenerationEnd)
        assert last.finish_reason == "cancelled"
        await engine.close()
        with pytest.raises(EngineClosed):
            await anext(engine.generate([ask("b")]))


@pytest.mark.parametrize("kind", ["scripted", "torch", "http"])
async def test_an_engine_that_was_not_started_refuses(kind: str, tiny_model: ModelFolder) -> None:
    engine = HttpEngine("http://127.0.0.1:9/v1") if kind == "http" else make(kind, tiny_model)
    with pytest.raises(EngineClosed):
        await anext(engine.generate([ask("a")]))
