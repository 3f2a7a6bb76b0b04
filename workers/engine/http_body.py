"""What OpenAI's APIs of completions and chats say over HTTP, in our nouns: a body becomes requests.

Beside OpenAI's own fields there are those that vLLM added under the same names (top_k, min_p, repetition_penalty,
bad_words, structured_outputs, priority, continuous_usage_stats), and `keep_s` of ours.
"""

import json
import random
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.seam import GenerationRequest, Grammar, Message, Prompt, Role

MAX_PROMPTS: Final = 64
"""Of one body."""
MAX_PARTS: Final = 256
"""Of one message."""

_ANY_OBJECT: Final = '{"type": "object"}'


class _Strict(BaseModel):
    """What is not here is refused: an answer that ignores a wish is a wrong one."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(_Strict):
    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: Literal[False] | None = None


class StructuredOutputs(_Strict):
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


class NamedSchema(_Strict):
    name: str | None = None
    description: str | None = None
    json_schema: dict[str, object] | bool = Field(alias="schema")
    strict: bool | None = None
    """Every answer keeps to its schema, whatever this says."""


class AnyText(_Strict):
    type: Literal["text"]


class AnyObject(_Strict):
    type: Literal["json_object"]


class OneSchema(_Strict):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat: TypeAlias = Annotated[AnyText | AnyObject | OneSchema, Field(discriminator="type")]


class SamplingBody(_Strict):
    """What bodies of both APIs may say of how an answer is chosen."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """0 and vLLM's -1 take all."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    bad_words: list[str] = []
    structured_outputs: StructuredOutputs | None = None
    response_format: ResponseFormat | None = None
    priority: int = 0
    """Lower is earlier, as in vLLM."""
    keep_s: float = 0.0
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    user: str | None = None

    @property
    def options(self) -> StreamOptions:
        return self.stream_options or StreamOptions()

    def grammar(self) -> Grammar | None:
        """What the answer must match. Raises `InvalidRequest` where the body says it twice."""
        grammars = [] if self.structured_outputs is None else self.structured_outputs.grammars()
        match self.response_format:
            case AnyObject():
                grammars.append(Grammar("json_schema", _ANY_OBJECT))
            case OneSchema(json_schema=named):
                grammars.append(Grammar("json_schema", json.dumps(named.json_schema)))
            case _:
                pass
        if len(grammars) > 1:
            raise InvalidRequest("structured_outputs", "names more than one grammar")
        return grammars[0] if grammars else None

    def chosen_seed(self) -> int:
        """Without a seed, one by chance."""
        return random.SystemRandom().getrandbits(63) if self.seed is None else self.seed

    def request(
        self,
        request_id: str,
        *,
        max_tokens: int,
        logprobs: int | None,
        grammar: Grammar | None,
        seed: int,
        prompt: Prompt = "",
        messages: tuple[Message, ...] = (),
    ) -> GenerationRequest:
        """The request for one prompt or one conversation; defaults are the API's own."""
        return GenerationRequest(
            id=request_id,
            prompt=prompt,
            messages=messages,
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=0 if self.top_k in (None, -1) else self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logprobs=logprobs,
            banned=tuple(self.bad_words),
            grammar=grammar,
            seed=seed,
            priority=-self.priority,
            keep_s=self.keep_s,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
        )


class CompletionBody(SamplingBody):
    """A body of `/v1/completions`."""

    prompt: str | list[str]
    logprobs: int | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    suffix: None = None

    def requests(self, request_id: str, context_tokens: int) -> tuple[GenerationRequest, ...]:
        """One for each prompt, named `<request_id>-<number>`."""
        prompts = (self.prompt,) if isinstance(self.prompt, str) else self.prompt
        if not 0 < len(prompts) <= MAX_PROMPTS:
            raise InvalidRequest("prompt", f"has {len(prompts)} texts; 1 to {MAX_PROMPTS}")
        grammar, seed = self.grammar(), self.chosen_seed()
        return tuple(
            self.request(
                f"{request_id}-{number}",
                prompt=prompt,
                max_tokens=16 if self.max_tokens is None else self.max_tokens,
                logprobs=self.logprobs,
                grammar=grammar,
                seed=seed,
            )
            for number, prompt in enumerate(prompts)
        )


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class ChatMessage(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    """`developer` is what newer clients call the system."""
    content: str | list[TextPart]
    name: None = None
    refusal: None = None

    def message(self) -> Message:
        role: Role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return Message(role, self.content)
        if len(self.content) > MAX_PARTS:
            raise InvalidRequest("messages", f"has one of {len(self.content)} parts; at most {MAX_PARTS}")
        return Message(role, "".join(part.text for part in self.content))


class ChatBody(SamplingBody):
    """A body of `/v1/chat/completions`."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = None
    """The newer name of `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: int | None = None
    store: Literal[False] | None = None

    def requests(self, request_id: str, context_tokens: int) -> tuple[GenerationRequest, ...]:
        """The one request; without a limit, the answer may take all of the context."""
        wanted = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs", "needs logprobs to be true")
        if not self.messages:
            raise InvalidRequest("messages", "are none")
        request = self.request(
            request_id,
            messages=tuple(message.message() for message in self.messages),
            max_tokens=context_tokens if wanted is None else wanted,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            grammar=self.grammar(),
            seed=self.chosen_seed(),
        )
        return (request,)


Body: TypeAlias = CompletionBody | ChatBody


def read_body(body: bytes, kind: type[CompletionBody] | type[ChatBody]) -> Body:
    """Raises `InvalidRequest` naming the first field that is wrong, with the way to it inside of the field."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field, *inside = map(str, first["loc"] or ("body",))
        way = f"{'.'.join(inside)}: " if inside else ""
        raise InvalidRequest(field, f"{way}{first['msg']}") from error
    except RecursionError as error:
        raise InvalidRequest("body", "is nested too deeply") from error
