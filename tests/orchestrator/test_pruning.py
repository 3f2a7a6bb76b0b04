"""`asterism artifacts prune`, beside a store in use."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asterism.orchestrator.artifacts import ArtifactFiles
from asterism.orchestrator.cli import artifacts
from asterism.orchestrator.core.edits import AddStar
from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import ConstellationEnded, EditsApplied, RequestAccepted, StarFinished
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import StarKind, StarSpec, StarState
from asterism.orchestrator.core.values import Artifact
from asterism.store.sql import SqlStore

C, A = ConstellationId("c1"), StarId("a")
DAY_S = 86_400


async def kept(folder: Path, *texts: bytes) -> list[Artifact]:
    """Artifacts in the data folder's place for them, two days old."""
    files = ArtifactFiles(folder / "artifacts")

    async def parts(text: bytes) -> AsyncIterator[bytes]:
        yield text

    named = [Artifact(hashlib.sha256(text).hexdigest(), len(text)) for text in texts]
    for artifact, text in zip(named, texts, strict=True):
        await files.keep(artifact, parts(text))
    files.close()
    for path in (folder / "artifacts").rglob("*"):
        if path.is_file():
            changed = path.stat().st_mtime - 2 * DAY_S
            os.utime(path, (changed, changed))
    return named


async def test_prune_removes_only_what_no_star_refers_to(tmp_path: Path) -> None:
    used, _ = await kept(tmp_path, b"[1]", b"[22]")
    store = SqlStore(tmp_path / "asterism.db")
    await store.open()
    await store.append(
        [
            RequestAccepted(1, 1.0, C, "r", "ann", Request("plan", "x"), Budget()),
            EditsApplied(2, 1.0, C, 1, "policy", (AddStar(StarSpec(A, StarKind.TOOL, "noop")),)),
            StarFinished(3, 1.0, C, A, StarState.SUCCEEDED, used, None, None, None, True),
        ],
        await store.acquire_epoch(),
    )
    # The store is held, as by an orchestrator that runs.
    flags = ["prune", "--data-dir", str(tmp_path)]
    as_json = await asyncio.to_thread(CliRunner().invoke, artifacts, [*flags, "--output", "json"])
    assert json.loads(as_json.output) == {"removed": 1, "bytes": 4}
    again = await asyncio.to_thread(CliRunner().invoke, artifacts, flags)
    assert again.output == "removed 0 artifacts, 0 bytes\n"
    await store.close()
    (left,) = (path for path in (tmp_path / "artifacts").rglob("*") if path.is_file())
    assert left.name == used.sha256


async def test_what_was_forgotten_holds_its_artifacts_no_longer(tmp_path: Path) -> None:
    used, _ = await kept(tmp_path, b"[1]", b"[22]")
    store = SqlStore(tmp_path / "asterism.db")
    await store.open()
    epoch = await store.acquire_epoch()
    await store.append(
        [
            RequestAccepted(1, 1.0, C, "r", "ann", Request("plan", "x"), Budget()),
            EditsApplied(2, 1.0, C, 1, "policy", (AddStar(StarSpec(A, StarKind.TOOL, "noop")),)),
            StarFinished(3, 1.0, C, A, StarState.SUCCEEDED, used, None, None, None, True),
            ConstellationEnded(4, 2.0, C, ConstellationState.SUCCEEDED, ""),
        ],
        epoch,
    )
    assert await store.forget(3.0, (), 100, epoch) == [C]
    result = await asyncio.to_thread(CliRunner().invoke, artifacts, ["prune", "--data-dir", str(tmp_path)])
    assert result.output == "removed 2 artifacts, 7 bytes\n"
    await store.close()


async def test_without_a_store_nothing_is_removed(tmp_path: Path) -> None:
    await kept(tmp_path, b"[1]")
    result = await asyncio.to_thread(CliRunner().invoke, artifacts, ["prune", "--data-dir", str(tmp_path)])
    assert isinstance(result.exception, Misconfigured)
    assert len([path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("hours", ["0", "23"])
def test_nothing_younger_than_a_day_may_be_asked_for(tmp_path: Path, hours: str) -> None:
    result = CliRunner().invoke(artifacts, ["prune", "--data-dir", str(tmp_path), "--older-than-hours", hours])
    assert result.exit_code == 2
