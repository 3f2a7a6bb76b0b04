"""Removing artifacts that no request refers to, beside a running orchestrator: it shares the store, not the process."""

import asyncio
from pathlib import Path

from asterism.orchestrator.artifacts import ArtifactFiles
from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.values import Artifact
from asterism.store.references import list_references


def prune(settings: Settings, *, older_than_s: float) -> tuple[int, int]:
    """How many artifacts were removed, and how many bytes. Raises Misconfigured where there is no store to ask."""
    location = settings.location
    if isinstance(location, Path) and not location.exists():
        raise Misconfigured("database", f"there is none at {location}, so that nothing says which artifacts are in use")

    def used() -> set[Artifact]:
        return asyncio.run(list_references(location))

    async def pruned() -> tuple[int, int]:
        files = ArtifactFiles(settings.artifact_location)
        try:
            return await files.prune(used, older_than_s=older_than_s)
        finally:
            files.close()

    return asyncio.run(pruned())
