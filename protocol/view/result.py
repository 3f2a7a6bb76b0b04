"""A star's result as it is shown: one that lies outside the graph is named, not looked into."""

from collections.abc import Mapping

from asterism.orchestrator.core.values import Artifact, Json, Result


def shown(result: Result) -> Json:
    """The value itself, or what programs find in place of one that is an artifact."""
    if isinstance(result, Artifact):
        return {"artifact": str(result), "bytes": result.size}
    return result


def shown_answer(answer: Mapping[str, Result]) -> Mapping[str, Json]:
    """An answer as JSON output has it."""
    return {star: shown(result) for star, result in answer.items()}
