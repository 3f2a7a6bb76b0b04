"""Large results leave the graph here, and come back here as plain values before anything runs that is given them."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from itertools import pairwise
from typing import Final, Protocol
from weakref import WeakValueDictionary

from asterism.orchestrator.core.effects import Assign, Place
from asterism.orchestrator.core.errors import AsterismError, DataLoss, InvalidField, NotFound
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.values import (
    MAX_ARTIFACT_BYTES,
    MAX_INLINE_BYTES,
    Artifact,
    Json,
    Missing,
    Path,
    find_at,
)
from asterism.protocol.convert import json_from_text
from asterism.workers.reports import AttemptFailed, Report, Succeeded, utf8_size

MAX_FETCHED_BYTES: Final = MAX_ARTIFACT_BYTES
"""All artifacts of one assignment; as values they take several times as much memory."""
MAX_CACHED_BYTES: Final = 256 * 1024 * 1024


class ArtifactPort(Protocol):
    """The way of artifacts to the orchestrator and back."""

    @property
    def max_artifact_bytes(self) -> int:
        """Of one result."""
        ...

    async def put_artifact(self, fencing_token: FencingToken, artifact: Artifact, data: bytes) -> None:
        """Have the result of a running attempt kept. Raises what another try would not mend."""
        ...

    async def get_artifact(self, fencing_token: FencingToken, artifact: Artifact) -> bytes:
        """What a running attempt is given, found to be just that. Raises what another try would not mend."""
        ...


class Artifacts:
    """Of one worker. What was used last is kept in memory: siblings are often given the same."""

    def __init__(self, port: ArtifactPort, steps: Executor) -> None:
        """`steps`: whose threads do what takes longer than the event loop may be held up."""
        self._port = port
        self._steps = steps
        self._cache = Cache(MAX_CACHED_BYTES)
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def fill(self, assignment: Assign) -> Assign:
        """The assignment with values in all its places. Raises `AttemptFailed` where one cannot be had."""
        if not assignment.places:
            return assignment
        artifacts = dict.fromkeys(place.artifact for place in assignment.places)
        size = sum(artifact.size for artifact in artifacts)
        if size > MAX_FETCHED_BYTES:
            message = f"its inputs are artifacts of {size} bytes; at most {MAX_FETCHED_BYTES} for one star"
            raise AttemptFailed("inputs_too_large", message, retryable=False)
        texts = {artifact: await self._fetch(assignment.fencing_token, artifact) for artifact in artifacts}
        loop = asyncio.get_running_loop()
        inputs = await loop.run_in_executor(self._steps, fill_places, assignment.inputs, assignment.places, texts)
        return replace(assignment, inputs=inputs, places=())

    async def keep(self, report: Report) -> Report:
        """The report with a large result put aside first. Raises `AttemptFailed` for one that cannot be."""
        if not isinstance(report, Succeeded) or fits_inline(report.result_json):
            return report
        data, artifact = await asyncio.get_running_loop().run_in_executor(self._steps, encode, report.result_json)
        longest = self._port.max_artifact_bytes
        if artifact.size > longest:
            message = f"the result has {artifact.size} bytes as JSON; at most {longest}"
            raise AttemptFailed("result_too_large", message, retryable=False)
        try:
            await self._port.put_artifact(report.fencing_token, artifact, data)
        except AsterismError as error:
            message = f"the result could not be put: {error.message}"
            raise AttemptFailed("artifact_refused", message, retryable=True) from error
        self._cache.add(artifact.sha256, data)
        edits_bytes = report.size_bytes - utf8_size(report.result_json)
        return replace(report, result_json="", artifact=artifact, size_bytes=edits_bytes)

    async def _fetch(self, fencing_token: FencingToken, artifact: Artifact) -> bytes:
        lock = self._fetching.setdefault(artifact.sha256, asyncio.Lock())
        async with lock:
            data = self._cache.find(artifact.sha256)
            if data is None:
                try:
                    data = await self._port.get_artifact(fencing_token, artifact)
                except DataLoss as error:
                    raise AttemptFailed("data_loss", error.message, retryable=False) from error
                except NotFound as error:
                    raise AttemptFailed("artifact_missing", error.message, retryable=False) from error
                except AsterismError as error:
                    raise AttemptFailed("artifact_refused", error.message, retryable=True) from error
                self._cache.add(artifact.sha256, data)
            return data


class Cache:
    """Bytes by their hash, those used last; together at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self.size = 0
        """Bytes in all."""

    def find(self, sha256: str) -> bytes | None:
        """The bytes, if they are here still."""
        data = self._kept.get(sha256)
        if data is not None:
            self._kept.move_to_end(sha256)
        return data

    def add(self, sha256: str, data: bytes) -> None:
        """Keep them, in place of what was used least recently."""
        if sha256 in self._kept:
            return
        self._kept[sha256] = data
        self.size += len(data)
        while self.size > self._limit:
            self.size -= len(self._kept.popitem(last=False)[1])


def fits_inline(text: str) -> bool:
    """Whether a result's JSON text stays in the graph."""
    return utf8_size(text) <= MAX_INLINE_BYTES


def encode(text: str) -> tuple[bytes, Artifact]:
    """The bytes of an artifact, and its name."""
    data = text.encode()
    return data, Artifact(hashlib.sha256(data).hexdigest(), len(data))


def fill_places(
    inputs: Mapping[str, Json], places: tuple[Place, ...], texts: Mapping[Artifact, bytes]
) -> Mapping[str, Json]:
    """The inputs with what lies in the artifacts; none of them is changed. Raises `AttemptFailed`."""
    values = {artifact: _value(artifact, data) for artifact, data in texts.items()}
    filled = dict(inputs)
    own: set[int] = set()
    for place in places:
        found = find_at(values[place.artifact], place.path)
        if isinstance(found, Missing):
            where = "".join(f"[{step!r}]" for step in place.path)
            message = f"input {place.input}: the result {place.artifact}{where} has no value"
            raise AttemptFailed("input_missing", message, retryable=False)
        _put(filled, (place.input, *place.at), found, own)
    return filled


def _put(whole: dict[str, Json], at: Path, part: Json, own: set[int]) -> None:
    """Put `part` at `at`. Mappings on the way are copied first, those apart whose ids are in `own`: they are copies."""
    for step, after in pairwise(at):
        inner = whole.get(step) if isinstance(step, str) else None
        if not isinstance(inner, Mapping) or not isinstance(step, str) or not isinstance(after, str):
            raise AttemptFailed("invalid_assignment", f"it has no place at {at!r}", retryable=False)
        if id(inner) in own and isinstance(inner, dict):
            whole = inner
        else:
            copied = dict(inner)
            own.add(id(copied))
            whole[step] = copied
            whole = copied
    whole[str(at[-1])] = part


def _value(artifact: Artifact, data: bytes) -> Json:
    """Written by a worker like this one, and checked like anything from elsewhere."""
    try:
        return json_from_text(data.decode(), str(artifact), MAX_FETCHED_BYTES)
    except (UnicodeDecodeError, InvalidField) as error:
        raise AttemptFailed("artifact_invalid", str(error), retryable=False) from error
