"""What `asterism tools` shows: the tools of this machine, what holds for them, and the settings with their sources."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from asterism.agents.asks import Json
from asterism.workers.logs import configure_logs
from asterism.workers.sandbox.confinement import find_confinement
from asterism.workers.tool_providers import open_tools
from asterism.workers.worker_file import LoadedFile, WorkerFile


@dataclass(frozen=True, slots=True)
class Lines:
    """Rows of the same keys, and a last line for people."""

    rows: tuple[Mapping[str, Json], ...]
    last: str

    def to_json(self) -> str:
        return json.dumps({"rows": list(self.rows), "note": self.last}, indent=2)

    def to_text(self) -> str:
        """The rows in columns, each as wide as its longest text but the last."""
        cells = [[str(value) for value in row.values()] for row in self.rows]
        widths = [max(map(len, column), default=0) for column in zip(*cells, strict=True)][:-1]
        texts = ["  ".join([*(f"{c:<{w}}" for c, w in zip(row, widths, strict=False)), row[-1]]) for row in cells]
        return "\n".join([*texts, self.last])


def report_settings(loaded: LoadedFile) -> Lines:
    """Each setting of the worker's file: name, value, source."""
    rows = tuple({"setting": name, "value": value, "source": source} for name, value, source in values_of(loaded))
    return Lines(rows, f"file: {loaded.path or 'none; worker.toml in the folder of settings is looked for'}")


async def report_tools(settings: WorkerFile) -> Lines:
    """Each tool that would be offered: name, effect, summary; and whether this machine confines those that touch it."""
    configure_logs("warning", "text")
    confinement = await find_confinement(settings.tools.user)
    async with open_tools(settings.tools, settings.mcp, at_once=1) as toolbox:
        rows: tuple[Mapping[str, Json], ...] = tuple(
            {"tool": tool.name, "effect": tool.effect.value, "summary": tool.summary} for tool in toolbox.descriptions
        )
    if confinement.is_confined:
        return Lines(rows, f"confined: {confinement.holds}")
    return Lines(rows, f"NOT confined on this machine: {confinement.holds}")


_SECRET: Final = re.compile(r"\.(env|headers)\.")


def values_of(loaded: LoadedFile) -> Iterator[tuple[str, str, str]]:
    """Each setting's name, value and source: `file PATH` or `default`. What may hold a secret is not shown."""
    for name, value in _flat("", loaded.settings.model_dump(mode="json")):
        shown = "(not shown)" if _SECRET.search(f".{name}.") and value else value
        yield name, str(shown), f"file {loaded.path}" if _is_given(loaded.settings, name) else "default"


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _is_given(model: BaseModel, name: str) -> bool:
    """Whether the file has this setting, or the table that it is in where that has no settings of its own."""
    at: object = model
    for step in name.split("."):
        if isinstance(at, BaseModel):
            if step not in at.model_fields_set:
                return False
            at = getattr(at, step)
        elif isinstance(at, Mapping):
            at = at.get(step)
    return True
