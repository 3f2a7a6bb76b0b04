"""Whether what the worker's file names is there, for `asterism doctor`: `python -m asterism.workers.model_check`.

It prints one line of JSON: a list of findings, each with level (ok, warn, fail), subject, found and advice.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Final

from asterism.orchestrator.core.errors import AsterismError, Misconfigured
from asterism.workers.model_settings import ModelTable
from asterism.workers.model_sources import list_models, server_engine
from asterism.workers.worker_file import load_worker_file

MOST_S: Final = 20.0
"""For all servers together, each asked for its models; they are asked at the same time."""

Finding = Mapping[str, str]


async def check_models(models: Mapping[str, ModelTable]) -> list[Finding]:
    """A finding for each model."""
    async with asyncio.TaskGroup() as group:
        checks = [group.create_task(_check(name, table)) for name, table in models.items()]
    return [check.result() for check in checks]


async def _check(name: str, table: ModelTable) -> Finding:
    subject = f"models.{name}"
    if table.folder is not None:
        path = table.folder.expanduser()
        if path.name in list_models(path.parent):
            return _finding("ok", subject, f"a folder: {path}")
        return _finding("fail", subject, f"{path} holds no config.json and model.safetensors", "name a model folder")
    try:
        engine = server_engine(name, table)
        async with asyncio.timeout(MOST_S):
            await engine.start()
    except Misconfigured as error:
        return _finding("fail", subject, error.message, "mend it in the worker's file")
    except (AsterismError, TimeoutError) as error:
        found = error.message if isinstance(error, AsterismError) else f"{table.url} says nothing for {MOST_S:g} s"
        return _finding("fail", subject, found, "start the server, or mend url, key_env or key_file")
    profile = engine.profile
    await engine.close()
    return _finding("ok", subject, f"{profile.model} at {table.url}, {profile.context_tokens} tokens of context")


def _finding(level: str, subject: str, found: str, advice: str = "") -> Finding:
    return {"level": level, "subject": subject, "found": found, "advice": advice}


def main() -> None:
    try:
        findings = asyncio.run(check_models(load_worker_file().settings.models))
    except AsterismError as error:
        findings = [_finding("fail", "the worker's file", error.message, "mend the setting")]
    sys.stdout.write(json.dumps(findings) + "\n")


if __name__ == "__main__":
    main()
