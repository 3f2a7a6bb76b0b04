"""What completion servers understand beside OpenAI's own fields, and under which names. Pure.

A wish that a server has no field for is refused: an answer that ignores a wish is a wrong one. Hints, such as a
priority, are left out. Sources: vLLM's pages "OpenAI-Compatible Server" and "Structured Outputs", SGLang's "Sampling
Parameters" and "Structured Outputs", llama.cpp's `tools/server/README.md` and `docs/llguidance.md`, OpenAI's API
reference, Ollama's "OpenAI compatibility".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.seam import GenerationRequest, Grammar

Dialect: TypeAlias = Literal["vllm", "sglang", "llama.cpp", "openai", "plain"]
"""`openai` is the hosted API; `plain` is any other that keeps to its fields, such as Ollama."""
Api: TypeAlias = Literal["chat", "completions"]

DIALECT_OF: Final[Mapping[str, Dialect]] = {
    "vllm": "vllm",
    "asterism": "vllm",
    "sglang": "sglang",
    "llamacpp": "llama.cpp",
    "openai": "openai",
    "openai-internal": "openai",
    "system": "openai",
}
"""By who owns a model, in the list of a server's models. Ours speaks as vLLM does."""


@dataclass(frozen=True, slots=True)
class _Names:
    """A dialect's names for what OpenAI has none for; None where it has no such thing."""

    top_k: str | None = None
    min_p: str | None = None
    repetition_penalty: str | None = None
    banned: str | None = None
    priority: str | None = None
    counts_as_it_goes: bool = False
    """Whether each event can say how many tokens there are by now."""


_NAMES: Final[Mapping[Dialect, _Names]] = {
    "vllm": _Names("top_k", "min_p", "repetition_penalty", "bad_words", "priority", counts_as_it_goes=True),
    "sglang": _Names("top_k", "min_p", "repetition_penalty", counts_as_it_goes=True),
    "llama.cpp": _Names("top_k", "min_p", "repeat_penalty"),
    "openai": _Names(),
    "plain": _Names(),
}


def extra_fields(
    request: GenerationRequest, dialect: Dialect, api: Api, *, has_schemas: bool = True
) -> dict[str, object]:
    """The fields of a body that OpenAI's client has no parameters for, and how an answer is constrained.

    Without `has_schemas`, a JSON schema is left to whoever reads the answer. Raises `InvalidRequest` for what the
    server does not have.
    """
    names = _NAMES[dialect]
    options: dict[str, object] = {"include_usage": True}
    if names.counts_as_it_goes:
        options["continuous_usage_stats"] = True
    fields: dict[str, object] = {"stream_options": options}
    wishes: tuple[tuple[str, str | None, object, object], ...] = (
        ("top_k", names.top_k, request.top_k, 0),
        ("min_p", names.min_p, request.min_p, 0.0),
        ("repetition_penalty", names.repetition_penalty, request.repetition_penalty, 1.0),
        ("banned", names.banned, list(request.banned), []),
    )
    for wish, name, value, nothing in wishes:
        if value == nothing:
            continue
        if name is None:
            raise InvalidRequest(wish, f"is nothing that a server of the kind {dialect} has")
        fields[name] = value
    if request.priority and names.priority is not None:
        fields[names.priority] = -request.priority
    if request.grammar is not None and (has_schemas or request.grammar.kind != "json_schema"):
        fields |= _grammar_fields(request.grammar, dialect, api)
    # OpenAI's newer models take no other name for it; other servers know the older one.
    limit = "max_completion_tokens" if dialect == "openai" and api == "chat" else "max_tokens"
    # Servers do not agree on 0. A token more is computed with the prompt, and forgotten.
    fields[limit] = max(1, request.max_tokens)
    return fields


def _grammar_fields(grammar: Grammar, dialect: Dialect, api: Api) -> dict[str, object]:
    match grammar.kind, dialect:
        case "json_schema", "vllm" if api == "completions":
            return {"structured_outputs": {"json": grammar.text}}
        case "json_schema", "llama.cpp" if api == "completions":
            return {"json_schema": _schema(grammar.text)}
        case "json_schema", "sglang" if api == "completions":
            return {"json_schema": grammar.text}
        case "json_schema", "openai" if api == "completions":
            raise InvalidRequest("grammar", "is nothing that completions of the kind openai have; chats do")
        case "json_schema", _:
            schema = _schema(grammar.text)
            # OpenAI refuses to be strict about most schemas; others are strict whatever is said.
            strict = dialect != "openai" or is_strict(schema)
            named = {"name": "answer", "schema": schema, "strict": strict}
            return {"response_format": {"type": "json_schema", "json_schema": named}}
        case "regex", "vllm":
            return {"structured_outputs": {"regex": grammar.text}}
        case "regex", "sglang":
            return {"regex": grammar.text}
        case "lark", "vllm":
            return {"structured_outputs": {"grammar": grammar.text}}
        case "lark", "llama.cpp":
            return {"grammar": f"%llguidance {{}}\n{grammar.text}"}
        case "regex", "llama.cpp":
            pattern = grammar.text.replace("/", r"\/")
            return {"grammar": f"%llguidance {{}}\nstart: /{pattern}/"}
        case kind, _:
            raise InvalidRequest("grammar", f"is of kind {kind}, which no server of the kind {dialect} has")


def _schema(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("grammar", f"is no JSON: {error}") from error


def is_strict(schema: object) -> bool:
    """Whether OpenAI's strict mode takes this schema: all fields of its objects are required, and no others allowed."""
    match schema:
        case {"type": "object", **others}:
            fields = others.get("properties", {})
            if not isinstance(fields, Mapping) or others.get("additionalProperties") is not False:
                return False
            required = others.get("required", [])
            if not isinstance(required, list) or set(fields) != set(map(str, required)):
                return False
            return all(map(is_strict, others.values())) and all(map(is_strict, fields.values()))
        case Mapping():
            # A schema that says nothing takes anything, which it does not.
            return bool(schema) and all(map(is_strict, _inside(schema)))
        case list():
            return all(map(is_strict, schema))
        case _:
            return True


def _inside(schema: Mapping[str, object]) -> list[object]:
    return [value for value in schema.values() if isinstance(value, Mapping | list) and value]
