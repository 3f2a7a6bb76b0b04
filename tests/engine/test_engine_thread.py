"""The engine's OS thread: an error about one request ends that one alone, and what is kept is kept for its time."""

import asyncio
import queue
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from asterism.workers.engine.computer import make_computer
from asterism.workers.engine.engine_thread import Close, Command, EngineThread, Mailbox, Outbox, Submit
from asterism.workers.engine.folder import ModelFolder
from asterism.workers.engine.metrics import EngineStats
from asterism.workers.engine.sampler import Sampler
from asterism.workers.engine.samplers import Samplers
from asterism.workers.engine.seam import (
    EngineEvent,
    EngineProfile,
    GenerationChunk,
    GenerationEnd,
    GenerationRequest,
)
from asterism.workers.engine.torch_engine import TorchEngine
from tests.engine.conftest import CHARACTERS, Collect, character_tokenizer
from tests.engine.test_sampling import Broken

ASK = GenerationRequest(id="a", prompt="once upon a time", max_tokens=40, temperature=1.0, logprobs=2)
OTHERS = [replace(ASK, id="other", seed=1), replace(ASK, id="long", prompt="a long time ago " * 3, seed=2)]
BLOCKS = 30


class ClosesWhenIdle(queue.SimpleQueue[Command]):
    """Closes the engine when it would wait without end; knows how long it wanted to wait before."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def get(self, block: bool = True, timeout: float | None = None) -> Command:
        if timeout is not None:
            self.waits.append(timeout)
        elif block and self.empty():
            return Close()
        return super().get(block, timeout)


@dataclass
class Ends:
    """The event loop's side: takes down events, and closes the engine behind the last end."""

    inbox: "queue.SimpleQueue[Command]"
    live: int
    events: list[EngineEvent] = field(default_factory=list)
    stats_at: dict[str, EngineStats] = field(default_factory=dict)
    find_stats: Callable[[], EngineStats] = EngineStats

    def started(self, error: BaseException | None) -> None:
        assert error is None

    def deliver(self, outbox: Outbox) -> None:
        for event in (each for events in outbox.events.values() for each in events):
            self.events.append(event)
            if isinstance(event, GenerationEnd):
                self.stats_at[event.request_id] = self.find_stats()
                self.live -= 1
        if not self.live and not isinstance(self.inbox, ClosesWhenIdle):
            self.inbox.put(Close())

    def said(self, name: str) -> tuple[str, Any, GenerationEnd]:
        chunks = [each for each in self.events if isinstance(each, GenerationChunk) and each.request_id == name]
        (end,) = (each for each in self.events if isinstance(each, GenerationEnd) and each.request_id == name)
        return "".join(each.text for each in chunks), [pair for each in chunks for pair in each.logprobs], end


def run(
    model: ModelFolder,
    requests: list[GenerationRequest],
    broken: Broken | None = None,
    inbox: "queue.SimpleQueue[Command] | None" = None,
) -> Ends:
    """All requests in one batch, on this OS thread; `broken` is the grammar of the one named `broken`."""
    inbox = inbox or queue.SimpleQueue()
    ends = Ends(inbox, len(requests))
    config = model.decoder.config
    sizes: dict[str, int] = {"max_sequences": 4, "context_tokens": 256}
    thread = EngineThread(
        model,
        EngineProfile(model=model.name, device="cpu", parameters=0, **sizes),
        os_threads=1,
        make_computer=partial(make_computer, model.decoder, blocks=BLOCKS, os_threads=1, device="cpu", **sizes),
        samplers=Samplers(model.tokenizer, vocab_size=config.vocab_size, end_ids=config.eos_token_ids),
        inbox=inbox,
        listener=ends,
    )
    ends.find_stats = lambda: thread.stats
    prompts = tuple([CHARACTERS.index(character) for character in str(each.prompt)] for each in requests)
    mailbox: Mailbox = asyncio.Queue()
    inbox.put(Submit(tuple(requests), prompts, tuple(make_samplers(requests, broken)), mailbox, 0.0))
    thread.run()
    return ends


def make_samplers(requests: Iterable[GenerationRequest], broken: Broken | None) -> Iterable[Sampler]:
    for each in requests:
        only = broken if each.id == "broken" else None
        yield Sampler(temperature=each.temperature, logprobs=each.logprobs, seed=each.seed, constraint=only)


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (Broken(range(1, 20), ask=8), "Panic: no more masks"),
        (Broken(range(1, 20), tell=8), "ValueError: not that one"),
    ],
    ids=["mask", "accept"],
)
def test_a_choice_that_fails_ends_its_request_alone(tiny_model: ModelFolder, broken: Broken, error: str) -> None:
    expected = run(tiny_model, OTHERS)

    found = run(tiny_model, [OTHERS[0], replace(ASK, id="broken", prompt="z" * 100), OTHERS[1]], broken)

    text, logprobs, end = found.said("broken")
    assert (end.finish_reason, end.error, end.tokens) == ("error", error, 7)
    assert len(text) == len(logprobs) == 7
    for name in ("other", "long"):
        assert found.said(name) == expected.said(name)
    # 16 + 7 and 48 + 7 tokens of the two others; what the broken one had is free at once.
    assert found.stats_at["broken"].kv_cache_usage == pytest.approx((2 + 4) / BLOCKS)
    assert found.stats_at["broken"].num_requests_running == 2


class FragileTokenizer:
    """A tokenizer that gives up at the text of one token."""

    def __init__(self, token_id: int) -> None:
        self._tokenizer = character_tokenizer()
        self._token_id = token_id

    def decode(self, token_ids: list[int], **options: Any) -> str:
        if self._token_id in token_ids:
            raise ValueError("no text")
        text: str = self._tokenizer.decode(token_ids, **options)
        return text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@pytest.mark.parametrize("logprobs", [None, 0])
async def test_a_token_without_a_text_ends_its_request_alone(
    tiny_model: ModelFolder, collect: Collect, logprobs: int | None
) -> None:
    requests = [replace(ASK, id=f"{n}", prompt=f"{n} tales", seed=n, logprobs=logprobs) for n in range(4)]
    engine = TorchEngine(tiny_model)
    await engine.start()
    expected = {name: text for name, (text, _) in (await collect(engine, requests)).items()}
    await engine.close()
    # A character that some of the answers have, some have not, and no prompt.
    found = {c: sum(c in text for text in expected.values()) for c in CHARACTERS[1:] if c not in "0123 tales"}
    bad = next(c for c, answers_with_it in found.items() if 0 < answers_with_it < len(expected))

    fragile = FragileTokenizer(CHARACTERS.index(bad))
    engine = TorchEngine(replace(tiny_model, tokenizer=fragile))  # type: ignore[arg-type]
    await engine.start()
    answers = await collect(engine, requests)
    usage = engine.stats().kv_cache_usage
    await engine.close()

    for name, (text, end) in answers.items():
        if bad in expected[name]:
            assert text == expected[name].partition(bad)[0]
            assert (end.finish_reason, end.error) == ("error", "ValueError: no text")
        else:
            assert (text, end.finish_reason) == (expected[name], "length")
    assert usage == 0


async def test_a_prompt_without_a_text_ends_its_request_alone(tiny_model: ModelFolder, collect: Collect) -> None:
    fragile = FragileTokenizer(CHARACTERS.index("9"))
    engine = TorchEngine(replace(tiny_model, tokenizer=fragile))  # type: ignore[arg-type]
    await engine.start()
    short = replace(ASK, id="short", max_tokens=0)
    answers = await collect(engine, [replace(ASK, prompt="9"), short])
    await engine.close()

    _, end = answers["a"]
    assert (end.finish_reason, end.error, end.tokens, end.prompt_tokens) == ("error", "ValueError: no text", 0, 1)
    assert answers["short"][1].finish_reason == "length"


def test_a_time_to_keep_ends_while_the_engine_is_idle(tiny_model: ModelFolder) -> None:
    inbox = ClosesWhenIdle()

    ends = run(tiny_model, [replace(ASK, keep_s=0.05)], inbox=inbox)

    # 16 prompt tokens and 40 of the answer, whose last one was never computed.
    assert ends.stats_at["a"].kv_cache_usage == pytest.approx(4 / BLOCKS)
    assert inbox.waits
    assert 0 < inbox.waits[0] <= 0.05
    assert ends.find_stats().kv_cache_usage == 0
