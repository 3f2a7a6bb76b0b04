"""Artifacts on a disk and in an object store: whole or not there, checked when read, pruned when nobody needs them."""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from asterism.orchestrator.artifacts import KEEP_S, PART_BYTES, ArtifactFiles
from asterism.orchestrator.core.errors import DataLoss, InvalidField, Misconfigured, NotFound, Overloaded
from asterism.orchestrator.core.values import Artifact

DATA = b"[" + b"1," * 400_000 + b"2]"


def named(data: bytes) -> Artifact:
    return Artifact(hashlib.sha256(data).hexdigest(), len(data))


async def parts_of(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def cut(data: bytes, size: int = PART_BYTES) -> Sequence[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def read(files: ArtifactFiles, artifact: Artifact, came: list[bytes] | None = None) -> bytes:
    """All of it; `came` gets the parts one by one."""
    parts = [] if came is None else came
    async for part in files.read(artifact):
        parts.append(part)  # what came before an error counts too
    return b"".join(parts)


def everything(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def file_of(root: Path, artifact: Artifact) -> Path:
    return root / "sha256" / artifact.sha256[:2] / artifact.sha256[2:4] / artifact.sha256


def age(path: Path, seconds: float) -> None:
    changed = path.stat().st_mtime - seconds
    os.utime(path, (changed, changed))


@pytest.fixture(params=["folder", "object store"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactFiles]:
    location = tmp_path / "a" if request.param == "folder" else f"memory://{secrets.token_hex(4)}"
    kept = ArtifactFiles(location)
    yield kept
    kept.close()
    MemoryFileSystem.store.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ArtifactFiles]:
    kept = ArtifactFiles(tmp_path)
    yield kept
    kept.close()


async def test_what_was_kept_is_read_as_it_was(files: ArtifactFiles) -> None:
    artifact = named(DATA)
    assert not await files.is_kept(artifact)
    await files.keep(artifact, parts_of(*cut(DATA)))
    assert await files.is_kept(artifact)
    assert await files.is_fresh(artifact)
    assert await read(files, artifact) == DATA
    assert not await files.is_kept(Artifact(artifact.sha256, artifact.size + 1))


async def test_keeping_it_again_changes_nothing(files: ArtifactFiles) -> None:
    artifact = named(DATA)
    for _ in range(2):
        await files.keep(artifact, parts_of(DATA))
    assert await read(files, artifact) == DATA


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([DATA[:-1]], "bytes came of the"),
        ([], "0 bytes came of the"),
        ([DATA, b"x"], "more than the"),
        ([DATA[:-1] + b"x"], "the bytes that came have the hash"),
    ],
    ids=["too short", "nothing", "too long", "other bytes"],
)
async def test_nothing_is_kept_of_what_does_not_fit_its_name(
    folder: ArtifactFiles, tmp_path: Path, parts: Sequence[bytes], reason: str
) -> None:
    artifact = named(DATA)
    with pytest.raises(InvalidField, match=reason):
        await folder.keep(artifact, parts_of(*parts))
    folder.close()
    assert everything(tmp_path) == []


async def test_nothing_is_left_of_a_transfer_that_broke(folder: ArtifactFiles, tmp_path: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await folder.keep(named(DATA), breaking())
    folder.close()
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    "damage", [DATA[:-1] + b"!", DATA[:-1], DATA + b" ", b""], ids=["bit", "short", "long", "empty"]
)
async def test_damaged_file_is_an_error_and_never_read_to_its_end(
    folder: ArtifactFiles, tmp_path: Path, damage: bytes
) -> None:
    artifact = named(DATA)
    await folder.keep(artifact, parts_of(DATA))
    file_of(tmp_path, artifact).write_bytes(damage)
    came: list[bytes] = []
    with pytest.raises(DataLoss):
        await read(folder, artifact, came)
    assert sum(map(len, came)) < len(DATA)


async def test_artifact_that_is_not_there_is_not_found(files: ArtifactFiles) -> None:
    with pytest.raises(NotFound):
        await read(files, named(b"1"))


async def test_place_that_does_not_work_is_a_reason_to_wait(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files = ArtifactFiles(tmp_path / "file")
    with pytest.raises(Overloaded, match="place for artifacts"):
        await files.keep(named(b"1"), parts_of(b"1"))
    files.close()


def test_folder_that_cannot_be_is_found_before_anything_is_put(tmp_path: Path) -> None:
    ArtifactFiles(tmp_path / "new").check()
    assert (tmp_path / "new").is_dir()
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Misconfigured, match="cannot be made"):
            ArtifactFiles(place).check()
    ArtifactFiles("memory://x").check()


@pytest.mark.parametrize("url", ["nothing-that-is-known://x", "file+nothing://x"])
def test_place_that_nobody_knows_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="artifacts"):
        ArtifactFiles(url)


async def test_prune_removes_what_is_old_and_unused_and_nothing_else(folder: ArtifactFiles, tmp_path: Path) -> None:
    used, unused, young = (named(data) for data in (b"1", b"22", b"333"))
    for data in (b"1", b"22", b"333"):
        await folder.keep(named(data), parts_of(data))
    for artifact in (used, unused):
        age(file_of(tmp_path, artifact), KEEP_S + 60)
    half = tmp_path / "new" / "half"
    half.write_text("half")
    age(half, KEEP_S + 60)
    assert await folder.prune(lambda: {used}) == (1, 2)
    assert [await folder.is_kept(artifact) for artifact in (used, unused, young)] == [True, False, True]
    assert not half.exists()
    assert await folder.prune(lambda: {used}) == (0, 0)


async def test_old_artifact_is_wanted_again_and_then_outlives_a_prune(folder: ArtifactFiles, tmp_path: Path) -> None:
    artifact = named(b"1")
    await folder.keep(artifact, parts_of(b"1"))
    age(file_of(tmp_path, artifact), KEEP_S / 2 + 60)
    assert await folder.is_kept(artifact)
    assert not await folder.is_fresh(artifact)
    age(file_of(tmp_path, artifact), KEEP_S)

    def used() -> set[Artifact]:
        # What another process puts while this one prunes.
        file_of(tmp_path, artifact).unlink()
        file_of(tmp_path, artifact).write_bytes(b"1")
        return set()

    assert await folder.prune(used) == (0, 0)
    assert await folder.is_fresh(artifact)


async def test_prune_does_not_mind_what_goes_while_it_looks(
    folder: ArtifactFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = named(b"1")
    await folder.keep(artifact, parts_of(b"1"))
    age(file_of(tmp_path, artifact), KEEP_S + 60)
    for name in ("new", "sha256"):
        (tmp_path / name / ("a" * 64)).write_text("half")
    find = LocalFileSystem.find

    def then_it_goes(self: LocalFileSystem, path: str, **options: Any) -> Any:
        found = find(self, path, **options)
        (Path(path) / ("a" * 64)).unlink()
        return found

    monkeypatch.setattr(LocalFileSystem, "find", then_it_goes)
    assert await folder.prune(lambda: set[Artifact]()) == (1, 1)


async def test_prune_of_an_object_store_keeps_what_is_young(files: ArtifactFiles) -> None:
    await files.keep(named(b"1"), parts_of(b"1"))
    assert await files.prune(set) == (0, 0)
    assert await files.prune(set, older_than_s=-60) == (1, 1)
    assert not await files.is_kept(named(b"1"))
