"""The seam between what asks for text and what computes it: requests in, chunks and one end per request out.

Pure: importing this page costs no torch. `scripted.py` and `torch_engine.py` implement it and pass one contract test.
"""

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.metrics import EngineStats

FinishReason = Literal["stop", "length", "end", "cancelled", "error"]
"""`stop`: a stop string; `length`: `max_tokens` or the context is used up; `end`: the model's end-of-text id."""


Prompt: TypeAlias = str | tuple[str, ...]
"""A text, or its segments in order. Each segment is tokenised by itself, so that a shared one has the same token ids
whatever follows it; one that is the text of an earlier answer to the segments before it gets the ids which that answer
decoded."""


def prompt_text(prompt: Prompt) -> str:
    """All segments together."""
    return prompt if isinstance(prompt, str) else "".join(prompt)


GrammarKind = Literal["json_schema", "regex", "lark"]


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the answer's text must match, from its first character to its last, in a notation that llguidance reads.

    The end-of-text id is chosen where the grammar accepts; an answer may still end before, by its length or a stop.
    """

    kind: GrammarKind
    text: str


Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """What one side of a conversation said; the model's own turns are the `assistant`'s."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt to continue, or one conversation to answer.

    The same request gives the same tokens whatever else is in the batch.
    """

    id: str
    """Unique among the requests that the engine holds; names the request in chunks, ends and cancels."""
    prompt: Prompt = ""
    messages: tuple[Message, ...] = ()
    """A conversation whose next message is the assistant's; given instead of a prompt. The engine renders it as its
    model was taught. Its assistant's messages that are the texts of earlier answers to the messages before them get the
    ids which those answers decoded."""
    max_tokens: int
    """0 computes the prompt and ends as `length`: a later prompt that begins with it finds it in the cache."""
    temperature: float = 0.0
    """0 is greedy: always the most likely token; at most 1,000."""
    # Penalties, bans, the grammar, temperature, min_p, top_k and top_p work in this order, each on what is left.
    top_k: int = 0
    """Sample from this many most likely tokens; 0 from all."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens whose probability reaches this (Holtzman et al. 2020), 0 < p <= 1."""
    min_p: float = 0.0
    """Sample from tokens at least this share as likely as the most likely one (Nguyen et al. 2024), 0 <= p < 1."""
    repetition_penalty: float = 1.0
    """Logits of tokens in the prompt or the answer are divided by it where positive, else multiplied (Keskar et al.
    2019, section 4.1); 0.001 to 1,000, 1 changes nothing."""
    presence_penalty: float = 0.0
    """Taken off the logits of tokens that the answer has, -2 to 2."""
    frequency_penalty: float = 0.0
    """Taken off the logits of tokens once for each time that the answer has them, -2 to 2."""
    logprobs: int | None = None
    """How many likeliest tokens to report beside each chosen one, 0 to 20; None reports nothing."""
    banned: tuple[str, ...] = ()
    """Tokens that are never chosen, each named by its text in the vocabulary: marks that a model must not forge.
    A text that is no single token is refused."""
    grammar: Grammar | None = None
    seed: int = 0
    priority: int = 0
    """Higher ones are admitted first and preempted last."""
    keep_s: float = 0.0
    """Seconds, up to 3,600, for which the KV of prompt and answer is not evicted after the end, also that of a cancel,
    but not after an error."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these that is completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationChunk:
    """Text that continues the prompt and the chunks before it; never a part of a stop string."""

    request_id: str
    text: str
    tokens: int
    """Tokens decoded since the chunk before; text that may still become a stop string waits for a later chunk."""
    logprobs: tuple["TokenLogprob", ...] = ()
    """One for each of `tokens` where the request asked for them. Tokens behind the last text are in no chunk."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural logarithms of what the model itself gives: before penalties, bans, the grammar, temperature and cuts."""

    token: str
    """As it decodes by itself."""
    logprob: float
    likeliest: tuple[tuple[str, float], ...] = ()
    """As many as were asked for where there are so many, the likeliest first."""


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
    cost: float = 0.0
    """What a server charges for it, in the currency of its price; nothing for what is computed here."""


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

    def stats(self) -> EngineStats:
        """Where it stands and what it counted, as of its last step; all zero before `start`."""
        ...

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


MAX_MESSAGES = 4096
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_BANNED = 256
MAX_BANNED_CHARACTERS = 256
MAX_GRAMMAR_CHARACTERS = 65_536
MAX_LOGPROBS = 20
MAX_KEEP_S = 3600.0
MAX_TEMPERATURE = 1000.0
MAX_REPETITION_PENALTY = 1000.0
"""And one over it the least: scores times it and its inverse stay far from the ends of float32."""


def check_requests(requests: Sequence[GenerationRequest], live_ids: Collection[str]) -> None:
    """Raises `InvalidRequest` for the first request that no engine would run; the prompt's tokens are not looked at."""
    seen = set(live_ids)
    for request in requests:
        if not request.id or request.id in seen:
            raise InvalidRequest("id", f"{request.id!r} is empty or already in use")
        seen.add(request.id)
        _check_asked(request)
        if request.max_tokens < 0:
            raise InvalidRequest("max_tokens", f"is {request.max_tokens}; at least 0")
        _check_sampling(request)
        _check_limits(request)
        if not 0 <= request.keep_s <= MAX_KEEP_S:
            raise InvalidRequest("keep_s", f"is {request.keep_s}; 0 to {MAX_KEEP_S:g} seconds")


def is_blank(request: GenerationRequest) -> bool:
    """Whether it asks for nothing at all."""
    return not (prompt_text(request.prompt).strip() or any(message.text.strip() for message in request.messages))


def _check_asked(request: GenerationRequest) -> None:
    if request.messages and request.prompt:
        raise InvalidRequest("messages", "stand beside a prompt; one of the two")
    if is_blank(request):
        raise InvalidRequest("messages" if request.messages else "prompt", "is empty")
    if len(request.messages) > MAX_MESSAGES:
        raise InvalidRequest("messages", f"are {len(request.messages)}; at most {MAX_MESSAGES}")
    for message in request.messages:
        if message.role not in get_args(Role):
            raise InvalidRequest("messages", f"have the role {message.role!r}; {', '.join(get_args(Role))}")


def _check_sampling(request: GenerationRequest) -> None:
    """The numbers that shape the distribution. Comparisons are written so that no number (nan) fails them."""
    if not 0 <= request.temperature <= MAX_TEMPERATURE:
        raise InvalidRequest("temperature", f"is {request.temperature}; 0 to {MAX_TEMPERATURE:g}")
    if request.top_k < 0:
        raise InvalidRequest("top_k", f"is {request.top_k}; at least 1, or 0 for all")
    if not 0 < request.top_p <= 1:
        raise InvalidRequest("top_p", f"is {request.top_p}; above 0 and at most 1")
    if not 0 <= request.min_p < 1:
        raise InvalidRequest("min_p", f"is {request.min_p}; at least 0 and below 1")
    if not 1 / MAX_REPETITION_PENALTY <= request.repetition_penalty <= MAX_REPETITION_PENALTY:
        limits = f"{1 / MAX_REPETITION_PENALTY:g} to {MAX_REPETITION_PENALTY:g}"
        raise InvalidRequest("repetition_penalty", f"is {request.repetition_penalty}; {limits}")
    for field in ("presence_penalty", "frequency_penalty"):
        value: float = getattr(request, field)
        if not -2 <= value <= 2:
            raise InvalidRequest(field, f"is {value}; -2 to 2")
    if request.logprobs is not None and not 0 <= request.logprobs <= MAX_LOGPROBS:
        raise InvalidRequest("logprobs", f"is {request.logprobs}; 0 to {MAX_LOGPROBS}")


def _check_limits(request: GenerationRequest) -> None:
    """The texts that bound the answer."""
    if len(request.stop) > MAX_STOPS or any(not 0 < len(stop) <= MAX_STOP_CHARACTERS for stop in request.stop):
        raise InvalidRequest("stop", f"at most {MAX_STOPS} strings of 1 to {MAX_STOP_CHARACTERS} characters")
    if len(request.banned) > MAX_BANNED or any(not 0 < len(text) <= MAX_BANNED_CHARACTERS for text in request.banned):
        raise InvalidRequest("banned", f"at most {MAX_BANNED} tokens of 1 to {MAX_BANNED_CHARACTERS} characters")
    grammar = request.grammar
    if grammar is None:
        return
    if grammar.kind not in get_args(GrammarKind):
        raise InvalidRequest("grammar", f"is of kind {grammar.kind!r}; {', '.join(get_args(GrammarKind))}")
    if not 0 < len(grammar.text) <= MAX_GRAMMAR_CHARACTERS:
        raise InvalidRequest("grammar", f"has {len(grammar.text)} characters; 1 to {MAX_GRAMMAR_CHARACTERS}")


def check_prompt_length(prompt_tokens: int, context_tokens: int) -> None:
    """Raises `InvalidRequest` unless at least one token can follow the prompt."""
    if prompt_tokens >= context_tokens:
        raise InvalidRequest("prompt", f"has {prompt_tokens} tokens; with its answer it gets {context_tokens}")
