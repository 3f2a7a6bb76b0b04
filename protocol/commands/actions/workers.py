"""Shows the fleet, drains and labels its workers."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import WorkerId
from asterism.orchestrator.core.values import Json
from asterism.protocol.answers import WorkerStatus
from asterism.protocol.commands.actions.connection import connected
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.actions.saying import say
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output
from asterism.protocol.view.style import console


def list_workers(address: str | None, token_file: Path | None, output: Output) -> None:
    """Shows every worker that is known."""
    run_to_exit(_list(address, token_file, output))


def drain(worker: WorkerId, is_draining: bool, address: str | None, token_file: Path | None, output: Output) -> None:
    """Gives a worker no new stars, or gives it stars again."""
    run_to_exit(_drain(worker, is_draining, address, token_file, output))


def label(worker: WorkerId, words: Sequence[str], address: str | None, token_file: Path | None, output: Output) -> None:
    """Sets and removes labels."""
    added, removed = read_labels(words)
    run_to_exit(_label(worker, added, removed, address, token_file, output))


def read_labels(words: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """What to set and what to remove, as in `kubectl label`; raises `InvalidField` for a word that is neither."""
    added: dict[str, str] = {}
    removed: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key:
            added[key] = value
        elif len(word) > 1 and word.endswith("-"):
            removed.append(word[:-1])
        else:
            raise InvalidField("label", f"{word!r} is neither KEY=VALUE nor KEY-")
    return added, tuple(removed)


async def _list(address: str | None, token_file: Path | None, output: Output) -> ExitCode:
    async with connected(address, token_file) as client:
        fleet = tuple(await client.workers())
    if output is Output.JSON:
        json.dump({"workers": [_worker(worker) for worker in fleet]}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif fleet:
        from asterism.protocol.view.tables import print_workers

        print_workers(console(), fleet, time.time())
    else:
        sys.stdout.write("no workers: start one with `asterism work --join HOST:PORT`\n")
    return ExitCode.SUCCEEDED


async def _drain(
    worker: WorkerId, is_draining: bool, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    async with connected(address, token_file) as client:
        await client.drain(worker, is_draining=is_draining)
    text = f"{worker} {'gets no new stars' if is_draining else 'gets stars again'}"
    say(output, text, {"worker": worker, "is_draining": is_draining})
    return ExitCode.SUCCEEDED


async def _label(
    worker: WorkerId,
    added: dict[str, str],
    removed: tuple[str, ...],
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> ExitCode:
    async with connected(address, token_file) as client:
        labels = await client.label(worker, set_labels=added, remove=removed)
    if output is Output.JSON:
        sys.stdout.write(json.dumps({"worker": worker, "labels": dict(labels)}) + "\n")
    else:
        sys.stdout.write(f"{worker} {' '.join(f'{key}={value}' for key, value in sorted(labels.items()))}\n")
    return ExitCode.SUCCEEDED


def _worker(worker: WorkerStatus) -> dict[str, Json]:
    profile = worker.profile
    return {
        "id": worker.id,
        "is_attached": worker.is_attached,
        "is_draining": worker.is_draining,
        "slots": profile.slots,
        "slots_held": worker.slots_held,
        "os": profile.os,
        "architecture": profile.architecture,
        "cores": profile.cores,
        "memory_bytes": profile.memory_bytes,
        "gpus": [{"name": gpu.name, "memory_bytes": gpu.memory_bytes} for gpu in profile.gpus],
        "models": list(profile.models),
        "tools": list(profile.tools),
        "programs": list(profile.programs),
        "labels": {**profile.labels, **worker.labels},
        "version": profile.version,
        "last_seen_at": worker.last_seen_at,
    }
