"""What OpenAI's completion API says over HTTP, in our nouns: a body becomes requests, events become its JSON chunks.

Beside OpenAI's own fields there are those that vLLM added under the same names (top_k, min_p, repetition_penalty,
bad_words, structured_outputs, priority, stop_reason, continuous_usage_stats), and `keep_s` of ours.
"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asterism.orchestrator.core.errors import NotFound
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.seam import (
    FinishReason,
    GenerationChunk,
    GenerationEnd,
    GenerationRequest,
    Grammar,
    TokenLogprob,
)

MAX_PROMPTS: Final = 64
"""Of one body."""

LEAST_LOGPROB: Final = -9999.0
"""What stands for minus infinity, which JSON does not have; vLLM writes the same."""

FINISH: Final[Mapping[FinishReason, str]] = {
    "stop": "stop",
    "end": "stop",
    "length": "length",
    "cancelled": "abort",
    "error": "error",
}
"""As OpenAI names them, and as vLLM does what OpenAI has no name for."""


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    continuous_usage_stats: bool = False


class StructuredOutputs(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    json_schema: str | dict[str, object] | bool | None = Field(default=None, alias="json")
    regex: str | None = None
    grammar: str | None = None
    """In Lark's notation."""

    def grammars(self) -> list[Grammar]:
        found = list[Grammar]()
        if self.json_schema is not None:
            text = self.json_schema if isinstance(self.json_schema, str) else json.dumps(self.json_schema)
            found.append(Grammar("json_schema", text))
        if self.regex is not None:
            found.append(Grammar("regex", self.regex))
        if self.grammar is not None:
            found.append(Grammar("lark", self.grammar))
        return found


class CompletionBody(BaseModel):
    """A body of `/v1/completions`. What is not here is refused: an answer that ignores a wish is a wrong one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    prompt: str | list[str]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """0 and vLLM's -1 take all."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    bad_words: list[str] = []
    structured_outputs: StructuredOutputs | None = None
    priority: int = 0
    """Lower is earlier, as in vLLM."""
    keep_s: float = 0.0
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    suffix: None = None
    user: str | None = None

    @property
    def options(self) -> StreamOptions:
        return self.stream_options or StreamOptions()

    def requests(self, request_id: str) -> tuple[GenerationRequest, ...]:
        """One for each prompt, named `<request_id>-<number>`. Without a seed, each gets one by chance."""
        prompts = (self.prompt,) if isinstance(self.prompt, str) else self.prompt
        if not 0 < len(prompts) <= MAX_PROMPTS:
            raise InvalidRequest("prompt", f"has {len(prompts)} texts; 1 to {MAX_PROMPTS}")
        grammars = [] if self.structured_outputs is None else self.structured_outputs.grammars()
        if len(grammars) > 1:
            raise InvalidRequest("structured_outputs", "names more than one grammar")
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        seed = random.SystemRandom().getrandbits(63) if self.seed is None else self.seed
        return tuple(
            GenerationRequest(
                id=f"{request_id}-{number}",
                prompt=prompt,
                # The API's own defaults.
                max_tokens=16 if self.max_tokens is None else self.max_tokens,
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                top_k=0 if self.top_k in (None, -1) else self.top_k,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                presence_penalty=self.presence_penalty or 0.0,
                frequency_penalty=self.frequency_penalty or 0.0,
                logprobs=self.logprobs,
                banned=tuple(self.bad_words),
                grammar=grammars[0] if grammars else None,
                seed=seed,
                priority=-self.priority,
                keep_s=self.keep_s,
                stop=stop,
            )
            for number, prompt in enumerate(prompts)
        )


def read_body(body: bytes, model: str) -> CompletionBody:
    """Raises `InvalidRequest` naming the first field that is wrong, and `NotFound` for another model."""
    try:
        read = CompletionBody.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "body"
        raise InvalidRequest(field, str(first["msg"])) from error
    if read.model != model:
        raise NotFound("model", read.model)
    return read


def usage(ends: Sequence[GenerationEnd]) -> dict[str, object]:
    """The tokens of all prompts together."""
    prompt, decoded = sum(end.prompt_tokens for end in ends), sum(end.tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": decoded,
        "total_tokens": prompt + decoded,
        "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in ends)},
    }


def usage_so_far(tokens: int) -> dict[str, object]:
    """Of one prompt that is being answered. How many tokens the prompt has is said with the end."""
    return {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens}


def chunk_choice(index: int, chunk: GenerationChunk) -> dict[str, object]:
    return {
        "index": index,
        "text": chunk.text,
        "logprobs": logprobs_json(chunk.logprobs) if chunk.logprobs else None,
        "finish_reason": None,
    }


def end_choice(index: int, end: GenerationEnd) -> dict[str, object]:
    finish = FINISH[end.finish_reason]
    return {"index": index, "text": "", "logprobs": None, "finish_reason": finish, "stop_reason": end.stop}


def logprobs_json(logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
    return {
        "tokens": [each.token for each in logprobs],
        "token_logprobs": [max(each.logprob, LEAST_LOGPROB) for each in logprobs],
        "top_logprobs": [
            # From the back: of tokens with the same text the likeliest is kept.
            {token: max(logprob, LEAST_LOGPROB) for token, logprob in reversed(each.likeliest)}
            for each in logprobs
        ],
    }
