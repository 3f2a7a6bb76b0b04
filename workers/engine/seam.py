"""The seam between what asks for text and what computes it: requests in, chunks and one end per request out.

Pure: importing this page costs no torch. `scripted.py` and `torch_engine.py` implement it and pass one contract test.
"""

import math
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from asterism.workers.engine.errors import InvalidRequest

FinishReason = Literal["stop", "length", "end", "cancelled", "error"]
"""`stop`: a stop string; `length`: `max_tokens` or the context is used up; `end`: the model's end-of-text id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt to continue. The same request gives the same tokens whatever else is in the batch."""

    id: str
    """Unique among the requests that the engine holds; names the request in chunks, ends and cancels."""
    prompt: str
    max_tokens: int
    temperature: float = 0.0
    """0 is greedy: always the most likely token."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens whose probability reaches this (Holtzman et al. 2020), 0 < p <= 1."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    """The text ends before the first of these that is completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationChunk:
    """Text that continues the prompt and the chunks before it; never a part of a stop string."""

    request_id: str
    text: str
    tokens: int
    """Tokens decoded since the chunk before; text that may still become a stop string waits for a later chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationEnd:
    """The last event of a request."""

    request_id: str
    finish_reason: FinishReason
    stop: str | None
    """Which stop string ended it, when `finish_reason` is `stop`."""
    tokens: int
    """All tokens decoded for it, those of the stop string and the end-of-text id among them."""
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens whose keys and values were already computed, by a batch neighbour or an earlier request."""
    error: str | None = None


EngineEvent = GenerationChunk | GenerationEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """What an engine offers, for placement and for people."""

    model: str
    context_tokens: int
    """Prompt and generated tokens of one request together."""
    max_sequences: int
    """Requests that decode at the same time; more than that wait their turn."""
    device: str
    parameters: int


class Engine(Protocol):
    """Continues prompts, many at once. Every method belongs to the event loop that called `start`."""

    @property
    def profile(self) -> EngineProfile: ...

    async def start(self) -> None: ...

    def generate(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[EngineEvent, None]:
        """Yields chunks of all requests as they come, and one end for each.

        The requests are one batch: a prefix that they share token by token is computed once. Raises `InvalidRequest`
        or `Overloaded` before any work. Closing the iterator early cancels what is left (use `contextlib.aclosing`).
        """
        ...

    async def cancel(self, request_ids: Collection[str]) -> None:
        """Ends these requests between two steps, as `cancelled`; an id that is not live is ignored."""
        ...

    async def close(self) -> None:
        """Ends everything live as `cancelled` and releases the device; a second call does nothing."""
        ...


MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256


def check_requests(requests: Sequence[GenerationRequest], live_ids: Collection[str]) -> None:
    """Raises `InvalidRequest` for the first request that no engine would run; the prompt's tokens are not looked at."""
    seen = set(live_ids)
    for request in requests:
        if not request.id or request.id in seen:
            raise InvalidRequest("id", f"{request.id!r} is empty or already in use")
        seen.add(request.id)
        if not request.prompt.strip():
            raise InvalidRequest("prompt", "is empty")
        if request.max_tokens < 1:
            raise InvalidRequest("max_tokens", f"is {request.max_tokens}; at least 1")
        if not (math.isfinite(request.temperature) and request.temperature >= 0):
            raise InvalidRequest("temperature", f"is {request.temperature}; a finite number from 0 up")
        if not 0 < request.top_p <= 1:
            raise InvalidRequest("top_p", f"is {request.top_p}; above 0 and at most 1")
        if len(request.stop) > MAX_STOPS or any(not 0 < len(stop) <= MAX_STOP_CHARACTERS for stop in request.stop):
            raise InvalidRequest("stop", f"at most {MAX_STOPS} strings of 1 to {MAX_STOP_CHARACTERS} characters")


def check_prompt_length(prompt_tokens: int, context_tokens: int) -> None:
    """Raises `InvalidRequest` unless at least one token can follow the prompt."""
    if prompt_tokens >= context_tokens:
        raise InvalidRequest("prompt", f"has {prompt_tokens} tokens; with its answer it gets {context_tokens}")
