"""Which artifacts are in use, as a process beside the orchestrator sees it."""

from pathlib import Path

from asterism.orchestrator.core.values import Artifact
from asterism.store.location import database_at
from asterism.store.reads import list_artifacts


async def list_references(location: str | Path) -> set[Artifact]:
    """Every artifact that some star refers to; raises Misconfigured like the whole store."""
    database = database_at(location)
    await database.open(exclusive=False)
    try:
        return await database.read(list_artifacts)
    finally:
        await database.close()
