"""`asterism workers`: the fleet."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import WorkerId
from asterism.orchestrator.core.values import Json
from asterism.protocol.answers import WorkerStatus
from asterism.protocol.commands.connection import connected
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Address, Output, OutputFormat, TokenFile
from asterism.protocol.commands.running import run_to_exit
from asterism.protocol.view.style import console

app = typer.Typer(help="List the workers; drain and label them.", invoke_without_command=True)
WorkerName: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="As `asterism workers` shows it.")]


@app.callback()
def workers(
    context: typer.Context,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List the workers; drain and label them."""
    if context.invoked_subcommand is None:
        run_to_exit(_list(address, token_file, output))
    elif address is not None or token_file is not None:
        raise typer.BadParameter(f"give it after the word {context.invoked_subcommand}", param_hint="--address")


@app.command("drain")
def drain(name: WorkerName, address: Address = None, token_file: TokenFile = None) -> None:
    """Give a worker no new stars; what runs goes on."""
    run_to_exit(_drain(WorkerId(name), True, address, token_file))


@app.command("undrain")
def undrain(name: WorkerName, address: Address = None, token_file: TokenFile = None) -> None:
    """Give a worker stars again."""
    run_to_exit(_drain(WorkerId(name), False, address, token_file))


@app.command("label")
def label(
    name: WorkerName,
    labels: Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-", help="Set a label, or remove it.")],
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Set or remove an operator's labels of a worker; they win over its own."""
    added, removed = read_labels(labels)
    run_to_exit(_label(WorkerId(name), added, removed, address, token_file, output))


def read_labels(words: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
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
        from asterism.protocol.view.tables import workers_table

        console().print(workers_table(fleet, time.time()))
    else:
        sys.stdout.write("no workers: start one with `asterism work --join HOST:PORT`\n")
    return ExitCode.SUCCEEDED


async def _drain(worker: WorkerId, is_draining: bool, address: str | None, token_file: Path | None) -> ExitCode:
    async with connected(address, token_file) as client:
        await client.drain(worker, is_draining=is_draining)
    sys.stdout.write(f"{worker} {'gets no new stars' if is_draining else 'gets stars again'}\n")
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
