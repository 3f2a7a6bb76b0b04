"""How a model was taught to read a conversation: the chat template of its folder, rendered to a prompt."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from jinja2 import Template, TemplateError

from asterism.workers.engine.chat_sandbox import ChatEnvironment, OverBudget, Refused, budget
from asterism.workers.engine.errors import InvalidRequest, UnsupportedModel
from asterism.workers.engine.fields import read_json

TEMPLATE: Final = "chat_template.jinja"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"

_TEMPLATE_BYTES: Final = 1 << 20
_TOKENIZER_CONFIG_BYTES: Final = 64 << 20
"""It may list every added token."""

_SPECIAL: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Templates by name, and the special tokens that they may name."""

    sources: Mapping[str, str]
    """Jinja; `default`, and `tool_use` for conversations with tools where the model has another one for them."""
    special_tokens: Mapping[str, str]

    @staticmethod
    def find(folder: Path) -> "ChatTemplate | None":
        """The folder's template: of its own file, else of `tokenizer_config.json`; None when it has none.

        Raises `UnsupportedModel` naming the file that does not read. The template itself is looked at when it is
        used: a broken one does not keep its model from continuing plain texts.
        """
        path = folder / TOKENIZER_CONFIG
        values = read_json(path, limit=_TOKENIZER_CONFIG_BYTES) if path.exists() else {}
        sources = _sources(values.get("chat_template"))
        if (folder / TEMPLATE).exists():
            sources = {**sources, "default": _read_template(folder / TEMPLATE)}
        return ChatTemplate(sources, _special_tokens(values)) if sources else None

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, object] | None = None,
    ) -> str:
        """The prompt for these messages, each at least a role and its content, and for tools given as JSON schemas.

        With `add_generation_prompt` it ends where the model's turn begins. `variables` are what a model's card names
        beside them (`enable_thinking`). Raises `InvalidRequest` for what the template does not take, and
        `UnsupportedModel` for a template that does not compile.
        """
        given = _plain("messages", [{k: v for k, v in message.items() if v is not None} for message in messages])
        schemas = None if tools is None else _plain("tools", list(tools))
        others = _plain("variables", dict(variables or {}))
        assert isinstance(others, dict)
        name = "tool_use" if tools is not None and "tool_use" in self.sources else "default"
        if name not in self.sources:
            raise UnsupportedModel("chat_template", f"has no default among {', '.join(sorted(self.sources))}")
        template = _compiled(self.sources[name])
        values = {**self.special_tokens, "documents": None, **others}
        values |= {"messages": given, "tools": schemas, "add_generation_prompt": add_generation_prompt}
        try:
            with budget():
                return template.render(values)
        except Refused as error:
            raise InvalidRequest("messages", str(error)) from error
        except OverBudget as error:
            raise InvalidRequest("messages", f"are too much for the model's chat template: {error}") from error
        except Exception as error:  # a template is a program of somebody else's, and may fail in any way
            raise InvalidRequest(
                "messages", f"do not fit the model's chat template: {type(error).__name__}: {error}"
            ) from error


@lru_cache(maxsize=8)
def _compiled(source: str) -> Template:
    try:
        with budget():
            return ChatEnvironment().from_source(source)
    except (TemplateError, RecursionError, SyntaxError, ValueError) as error:
        raise UnsupportedModel("chat_template", f"{type(error).__name__}: {error}") from error


def _plain(field: str, value: object) -> object:
    """The same as nothing but JSON's types: what a template reaches through them has no methods of its own."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(field, f"is not JSON: {error}") from error


def _sources(found: object) -> dict[str, str]:
    """`chat_template` of `tokenizer_config.json`: a text, or a list of named ones."""
    match found:
        case None:
            return {}
        case str():
            return {"default": found}
        case list():
            sources: dict[str, str] = {}
            for item in found:
                match item:
                    case {"name": str(name), "template": str(source)}:
                        sources[name] = source
                    case _:
                        raise UnsupportedModel("chat_template", "has an item without a name or a template")
            return sources
        case _:
            raise UnsupportedModel("chat_template", "is neither a text nor a list of named ones")


def _read_template(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_TEMPLATE_BYTES + 1)
        if len(content) > _TEMPLATE_BYTES:
            raise UnsupportedModel(path.name, f"has more than {_TEMPLATE_BYTES} bytes")
        return content.decode()
    except (OSError, ValueError) as error:
        raise UnsupportedModel(path.name, str(error)) from error


def _special_tokens(values: Mapping[str, object]) -> dict[str, str]:
    """Those that are set: by their text, or as an added token's fields."""
    tokens: dict[str, str] = {}
    for name in _SPECIAL:
        match values.get(name):
            case str(text) | {"content": str(text)}:
                tokens[name] = text
            case None:
                pass
            case other:
                raise UnsupportedModel(name, f"is {other!r}, not a token")
    return tokens
