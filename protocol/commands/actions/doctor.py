"""Says what is there, what is not, and what to do about it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from asterism.orchestrator.core.errors import AsterismError
from asterism.protocol.commands.actions.connection import client_of, settings_of
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.ending import ExitCode, advice
from asterism.protocol.commands.options import Output
from asterism.protocol.folders import data_folder
from asterism.protocol.view.style import is_terminal
from asterism.protocol.view.wording import count, one_line

_FREE_BYTES: Final = 200 * 1024 * 1024
"""Less room than this in the data folder is worth a warning."""
_STYLES: Final = {"ok": "\x1b[32m", "warn": "\x1b[33m", "fail": "\x1b[31m"}
_EXTRAS: Final = {
    "orchestrator": ("sqlalchemy", "pydantic_settings", "structlog"),
    "worker": ("torch", "safetensors", "tokenizers", "psutil"),
}
"""Extra -> modules that only it brings."""


_PROBE_S: Final = 120.0
"""Longest import of torch or load of a model, in seconds: a first import from a cold disk takes most of a minute."""
_TORCH: Final = """
import torch
names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
print("|".join([torch.__version__, *names]))
"""
_MODEL: Final = """
import sys
from pathlib import Path
from asterism.workers.engine.folder import load_folder
print(sum(weight.numel() for weight in load_folder(Path(sys.argv[1])).decoder.parameters()))
"""

_CONFINEMENT: Final = """
import asyncio
from asterism.workers.sandbox.confinement import find_confinement
found = asyncio.run(find_confinement())
print(f"{found.is_confined}|{found.holds}")
"""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    subject: str
    found: str
    advice: str = ""


def doctor(address: str | None, token_file: Path | None, output: Output) -> None:
    """Prints one line for each finding."""
    run_to_exit(_doctor(address, token_file, output))


async def _doctor(address: str | None, token_file: Path | None, output: Output) -> ExitCode:
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        if output is Output.TEXT:
            sys.stdout.write(_line(finding) + "\n")
            sys.stdout.flush()

    for finding in check_machine():
        note(finding)
    async for finding in check_address(address, token_file):
        note(finding)
    if output is Output.JSON:
        report = [
            {"level": item.level.value, "subject": item.subject, "found": item.found, "advice": item.advice}
            for item in findings
        ]
        sys.stdout.write(json.dumps({"findings": report}, indent=2) + "\n")
    return ExitCode.FAILED if any(item.level is Level.FAIL for item in findings) else ExitCode.SUCCEEDED


def check_machine() -> Iterator[Finding]:
    """Python, what is installed, accelerators, the data folder, the shipped models, those of the worker's file."""
    release = ".".join(map(str, sys.version_info[:3]))
    yield Finding(Level.OK, "python", f"{release} at {sys.executable}")
    try:
        yield Finding(Level.OK, "asterism", version("asterism"))
    except PackageNotFoundError:
        yield Finding(Level.FAIL, "asterism", "it is not installed", "pip install asterism")
    for extra, modules in _EXTRAS.items():
        if missing := [module for module in modules if find_spec(module) is None]:
            todo = f"pip install 'asterism[{extra}]', if this machine shall be one"
            yield Finding(Level.WARN, f"extra {extra}", f"without {', '.join(missing)}", todo)
        else:
            yield Finding(Level.OK, f"extra {extra}", "installed")
    yield from _check_torch()
    yield _check_data_folder(data_folder())
    yield from _check_models()
    yield from _check_worker_file()
    yield from _check_confinement()


async def check_address(address: str | None, token_file: Path | None) -> AsyncIterator[Finding]:
    """The orchestrator, and its workers."""
    try:
        settings = settings_of(address, token_file)
    except AsterismError as error:
        yield Finding(Level.FAIL, "settings", error.message, advice(error, "doctor"))
        return
    where = f"{settings.address.value} (from {settings.address.detail or settings.address.source.value})"
    try:
        async with client_of(settings) as client:
            fleet = await client.workers()
    except AsterismError as error:
        # Without a configured address `run` starts an orchestrator of its own: then none has to be there.
        level = Level.WARN if settings.address.is_default else Level.FAIL
        yield Finding(level, "orchestrator", f"{where}: {error.message}", advice(error, "doctor"))
        return
    yield Finding(Level.OK, "orchestrator", where)
    attached = [worker for worker in fleet if worker.is_attached]
    if not attached:
        yield Finding(Level.WARN, "workers", "none is attached", "asterism work --join HOST:PORT, on any machine")
        return
    slots = sum(worker.profile.slots for worker in attached)
    yield Finding(Level.OK, "workers", f"{count(len(attached), 'worker')} with {count(slots, 'slot')}")
    models = sorted({model for worker in attached for model in worker.profile.models})
    if models:
        yield Finding(Level.OK, "models", ", ".join(models))
    else:
        yield Finding(Level.WARN, "models", "no worker offers one", "asterism work --model NAME")


def _check_torch() -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    works, said = _probe(_TORCH)
    if not works:
        yield Finding(Level.FAIL, "torch", f"it is installed and does not load: {said}", "pip install -U torch")
        return
    release, *names = said.split("|")
    yield Finding(Level.OK, "torch", release)
    yield Finding(Level.OK, "gpus", ", ".join(names) if names else "none that torch can use: models run on the CPU")


def _check_data_folder(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(Level.FAIL, "data folder", f"{folder}: {error.strerror}", "set ASTERISM_DATA_DIR to one you own")
    if free < _FREE_BYTES:
        return Finding(Level.WARN, "data folder", f"{folder}: only {free // 2**20} MiB are free", "make room there")
    return Finding(Level.OK, "data folder", str(folder))


def _check_models() -> Iterator[Finding]:
    """The models that are shipped, loaded as a worker loads them: a broken download shows here and not in a star."""
    if any(find_spec(module) is None for module in _EXTRAS["worker"]):
        return
    shipped = Path(str(files("asterism.workers"))) / "models"
    for config in sorted(shipped.glob("*/config.json")):
        works, said = _probe(_MODEL, str(config.parent))
        if works:
            yield Finding(Level.OK, f"model {config.parent.name}", f"loads, {said} parameters")
        else:
            yield Finding(Level.FAIL, f"model {config.parent.name}", said, "install asterism again")


def _check_worker_file() -> Iterator[Finding]:
    """The models that the worker's file names: each server is asked for its list."""
    if any(find_spec(module) is None for module in ("openai", "pydantic")):
        return
    works, said = _run("-m", "asterism.workers.model_check")
    if not works:
        yield Finding(Level.FAIL, "the worker's file", said, "mend it, or look at what `asterism work` says")
        return
    for found in json.loads(said):
        yield Finding(Level(found["level"]), found["subject"], found["found"], found["advice"])


def _check_confinement() -> Iterator[Finding]:
    """Whether tools that touch the machine can be confined here, tried as a worker tries it."""
    if any(find_spec(module) is None for module in _EXTRAS["worker"]):
        return
    works, said = _probe(_CONFINEMENT)
    is_confined, _, holds = said.partition("|")
    if works and is_confined == "True":
        yield Finding(Level.OK, "tools", f"confined: {holds}")
    else:
        todo = "allow user namespaces, or tools.unconfined = true in the worker's file where everybody is trusted"
        yield Finding(Level.WARN, "tools", f"this machine cannot confine them: {holds or said}", todo)


def _probe(code: str, *arguments: str) -> tuple[bool, str]:
    """Whether a piece of code runs in a process of its own, and its last words: a broken driver may hang or abort."""
    return _run("-c", code, *arguments)


def _run(*arguments: str) -> tuple[bool, str]:
    try:
        ended = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {_PROBE_S:g} s"
    said = (ended.stdout if ended.returncode == 0 else ended.stderr).strip().splitlines()
    return ended.returncode == 0, said[-1] if said else f"it ended with code {ended.returncode}"


def _line(finding: Finding) -> str:
    word = f"{finding.level.value:<4}"
    if is_terminal() and "NO_COLOR" not in os.environ:
        word = f"{_STYLES[finding.level.value]}{word}\x1b[0m"
    line = f"{word}  {finding.subject}: {one_line(finding.found, 400)}"
    return f"{line}\n      {finding.advice}" if finding.advice and finding.level is not Level.OK else line
