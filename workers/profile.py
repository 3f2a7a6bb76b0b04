"""What this worker says of its machine and of what it offers."""

import itertools
import os
import platform
from collections.abc import Collection, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Final

import psutil

from asterism.agents.asks import ToolDescription
from asterism.agents.registry import ProgramSpec
from asterism.orchestrator.core.profile import Description, Effect, Gpu, WorkerProfile

MAX_SLOTS: Final = 4096
MAX_SUMMARY: Final = 512
"""Characters of a tool's or a program's summary that are announced."""
NO_MODEL: Final = "none"
"""`--model none`: offer no model at all."""


def describe_machine(
    *,
    slots: int | None = None,
    models: Collection[str] = (),
    tools: Collection[ToolDescription] = (),
    programs: Mapping[str, ProgramSpec] = MappingProxyType({}),
    labels: Mapping[str, str] | None = None,
) -> WorkerProfile:
    """The profile to announce; without `slots`, one for each core that this process may use."""
    cores = count_cores()
    return WorkerProfile(
        slots=min(cores, MAX_SLOTS) if slots is None else slots,
        os=platform.system().lower(),
        architecture=platform.machine().lower(),
        cores=cores,
        memory_bytes=psutil.virtual_memory().total,
        gpus=find_gpus(),
        models=tuple(sorted(models)),
        tools=tuple(sorted(tool.name for tool in tools)),
        programs=tuple(sorted(programs)),
        labels=dict(labels or {}),
        version=find_version(),
        descriptions=(*map(_describe_tool, tools), *itertools.starmap(_describe_program, programs.items())),
    )


def _describe_tool(tool: ToolDescription) -> Description:
    return Description(
        f"tool:{tool.name}",
        Effect(tool.effect.value),
        tool.version,
        tool.summary[:MAX_SUMMARY],
        tool.schema,
        tool.cache_s,
    )


def _describe_program(name: str, spec: ProgramSpec) -> Description:
    return Description(f"program:{name}", Effect(spec.effect.value), spec.version, spec.summary[:MAX_SUMMARY])


def count_cores() -> int:
    """Cores that this process may run on, which a container or a task set may have made fewer."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def find_gpus() -> tuple[Gpu, ...]:
    """The GPUs that NVML knows; none where there is no driver, or no NVML for Python."""
    try:
        pynvml = import_module("pynvml")  # it has no stubs
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(
            Gpu(str(pynvml.nvmlDeviceGetName(handle)), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total))
            for handle in handles
        )
    except pynvml.NVMLError:  # a device that fell off the bus: better no GPU than no worker
        return ()
    finally:
        pynvml.nvmlShutdown()


def find_version() -> str:
    """The version of asterism that is installed; empty in a tree that is not."""
    try:
        return version("asterism")
    except PackageNotFoundError:
        return ""
