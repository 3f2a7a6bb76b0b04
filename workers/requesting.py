"""From what a program asks to what an engine is asked, and from how a text ended to what the program is told."""

from collections.abc import Sequence

from asterism.agents.asks import Chat, FinishReason, Generate, Generated, Prompt, Sampling, segments_of
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.seam import GenerationEnd, GenerationRequest, Grammar, Message, is_blank


def request_for(request_id: str, ask: Generate | Chat) -> GenerationRequest:
    """The engine's request for a text or the next message of a conversation."""
    if isinstance(ask, Chat):
        messages = tuple(Message(message.role, message.text) for message in ask.messages)
        return _request(request_id, "", messages, ask.sampling)
    return prompt_request(request_id, segments_of(ask.prompt), ask.sampling)


def prompt_request(request_id: str, segments: tuple[str, ...], sampling: Sampling) -> GenerationRequest:
    """The engine's request to continue these segments."""
    return _request(request_id, segments[0] if len(segments) == 1 else segments, (), sampling)


def finished(thread: str, texts: Sequence[str], end: GenerationEnd, *, model: str, group: int = -1) -> Generated:
    """A whole text and how it ended, as a program gets it."""
    return Generated(
        thread=thread,
        text="".join(texts),
        finish_reason=end.finish_reason,
        stop=end.stop,
        tokens=end.tokens,
        prompt_tokens=end.prompt_tokens,
        cached_tokens=end.cached_tokens,
        model=model,
        cost=end.cost,
        group=group,
    )


def bearable(refusal: InvalidRequest, requests: Sequence[GenerationRequest]) -> FinishReason | None:
    """How texts end that were refused by no fault of the program; None for those that it asked for wrongly."""
    if any(is_blank(request) for request in requests):
        return None
    if refusal.field == "prompt":
        # No room behind it: as when the context is used up in the middle of a text.
        return "length"
    if all(request.max_tokens == 0 for request in requests):
        # Not every server computes a prompt for nothing; whoever asks only hopes to save time.
        return "error"
    return None


def _request(request_id: str, prompt: Prompt, messages: tuple[Message, ...], sampling: Sampling) -> GenerationRequest:
    grammar = sampling.grammar
    return GenerationRequest(
        id=request_id,
        prompt=prompt,
        messages=messages,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        banned=sampling.banned,
        grammar=None if grammar is None else Grammar(grammar.kind, grammar.text),
        seed=sampling.seed,
        priority=sampling.priority,
        keep_s=sampling.keep_s,
        stop=sampling.stop,
    )
