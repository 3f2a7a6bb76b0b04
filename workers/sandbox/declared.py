"""What the sandbox's tools are: their summaries and the schemas of their arguments."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from asterism.agents.asks import Effect, Json, ToolDescription
from asterism.workers.sandbox.files import DEFAULT_READ, MOST_DEPTH, MOST_ENTRIES, MOST_MATCHES
from asterism.workers.sandbox.paths import MAX_PATH

MOST_TEXT: Final = 1024 * 1024
"""Characters of a file's text, of code and of standard input."""
MOST_COMMAND: Final = 32 * 1024
"""Linux takes arguments of at most 128 KiB, and a character has up to four bytes."""
MOST_ARGUMENTS: Final = 256

_PATH: Final[Json] = {"type": "string", "minLength": 1, "maxLength": MAX_PATH}
_ENCODING: Final[Json] = {"enum": ["utf-8", "base64"], "default": "utf-8"}
_STDIN: Final[Json] = {"type": "string", "maxLength": MOST_TEXT, "description": "Its standard input"}
_CHECK: Final[Json] = {
    "type": "boolean",
    "default": True,
    "description": "Whether an exit code other than 0 is an error of the call",
}


def _whole(low: int, high: int) -> Json:
    return {"type": "integer", "minimum": low, "maximum": high}


def _object(required: tuple[str, ...], **properties: Json) -> Mapping[str, Json]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_SCHEMAS: Final[Mapping[str, tuple[str, Mapping[str, Json]]]] = MappingProxyType(
    {
        "shell": (
            "Run a command line in /bin/sh, whose files are kept for this star's later calls; gives stdout, stderr",
            _object(
                ("command",),
                command={"type": "string", "minLength": 1, "maxLength": MOST_COMMAND},
                stdin=_STDIN,
                check=_CHECK,
            ),
        ),
        "command": (
            "Run one of these programs, without a shell; gives stdout, stderr",
            _object(
                ("argv",),
                argv={
                    "type": "array",
                    "items": {"type": "string", "maxLength": MOST_COMMAND},
                    "minItems": 1,
                    "maxItems": MOST_ARGUMENTS,
                },
                stdin=_STDIN,
                check=_CHECK,
            ),
        ),
        "python": (
            "Run Python code in a fresh interpreter; what it prints is stdout of the result",
            _object(
                ("code",),
                code={"type": "string", "maxLength": MOST_TEXT},
                data={"description": "Any value; the code has it as the variable `data`"},
                check=_CHECK,
            ),
        ),
        "file.read": (
            f"Read a file, or {DEFAULT_READ} bytes of it from an offset; gives text",
            _object(
                ("path",),
                path=_PATH,
                offset=_whole(0, 2**53),
                max_bytes=_whole(1, MOST_TEXT),
                encoding=_ENCODING,
            ),
        ),
        "file.write": (
            "Write a whole file, and the folders that lead to it",
            _object(("path", "text"), path=_PATH, text={"type": "string", "maxLength": MOST_TEXT}, encoding=_ENCODING),
        ),
        "file.list": (
            "List a folder and, to a depth, those below it; gives entries: path, kind, size",
            _object((), path=_PATH, depth=_whole(1, MOST_DEPTH), max_entries=_whole(1, MOST_ENTRIES)),
        ),
        "file.search": (
            "Find lines in the files of a folder that hold a text or match a regular expression of Python; "
            "gives matches: path, line, text",
            _object(
                ("pattern",),
                pattern={"type": "string", "minLength": 1, "maxLength": 1000},
                is_regex={"type": "boolean", "default": False},
                path=_PATH,
                glob={"type": "string", "minLength": 1, "maxLength": 200, "description": "Of the file's name or path"},
                max_matches=_whole(1, MOST_MATCHES),
            ),
        ),
        "http.get": (
            "Get what is at a URL of an allowed host; gives status, text",
            _object(
                ("url",),
                url={"type": "string", "minLength": 1, "maxLength": 4096},
                headers={"type": "object", "additionalProperties": {"type": "string", "maxLength": 4096}},
                max_bytes=_whole(1, MOST_TEXT),
            ),
        ),
    }
)
PROGRAM_TOOLS: Final = frozenset({"shell", "command", "python"})


def describe(name: str, *, program_effect: Effect, note: str = "") -> ToolDescription:
    """The description of one tool; `note` says what it may touch here. All but programs can be repeated at will."""
    summary, schema = _SCHEMAS[name]
    effect = program_effect if name in PROGRAM_TOOLS else Effect.IDEMPOTENT
    return ToolDescription(name=name, summary=f"{summary}{note}", schema=schema, effect=effect)
