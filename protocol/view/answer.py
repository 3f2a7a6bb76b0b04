"""The answer of a request, for people and for programs."""

from collections.abc import Mapping

from asterism.orchestrator.core.values import Artifact, Result
from asterism.protocol.view.json_text import json_text


def answer_text(answer: Mapping[str, Result]) -> str:
    """The results of the stars that nothing depends on: a result's `text` where it has one, else its JSON."""
    if not answer:
        return "(no star without children succeeded: there is no answer)"
    if len(answer) == 1:
        return _result_text(*next(iter(answer.items())))
    return "\n".join(f"{star}:\n{_result_text(star, result)}\n" for star, result in answer.items()).rstrip("\n")


def _result_text(star: str, result: Result) -> str:
    match result:
        case Artifact():
            return f"({result.size} bytes of JSON: `asterism fetch {star} ID --to FILE` saves them)"
        case str():
            return printable(result)
        case Mapping() if isinstance(text := result.get("text"), str):
            return printable(text)
        case _:
            return json_text(result, indent=2)


def printable(text: str) -> str:
    """Text without control characters other than line breaks and tabs: a result may not drive the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text).rstrip("\n")
