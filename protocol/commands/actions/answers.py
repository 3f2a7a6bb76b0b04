"""The answer of a request with what is not too large to be read in place of its names."""

from typing import TYPE_CHECKING, Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.values import Artifact, Result

if TYPE_CHECKING:
    from asterism.protocol.client import AsyncClient

READABLE_BYTES: Final = 1024 * 1024
"""All that is fetched to be printed; more than that is no answer for a person, and is left to `asterism fetch`."""


async def readable_answer(client: "AsyncClient", of: TaskConstellation) -> dict[str, Result]:
    """The answer, its artifacts read as long as all of them together stay within READABLE_BYTES."""
    answer: dict[str, Result] = dict(of.answer())
    left = READABLE_BYTES
    for star, result in answer.items():
        if isinstance(result, Artifact) and result.size <= left:
            left -= result.size
            answer[star] = await client.artifact_value(of.id, StarId(star))
    return answer
