"""Other engines, measured in processes of their own by programs that are no part of the product.

Such a program gets the path of a JSON file as its last argument: `folder` (a Hugging Face model folder), `os_threads`,
`plan` (the fields of `cases.Plan`) and `seed`. The last line that it prints is one JSON object: `engine` (its name),
`tokens_per_s` (by batch) and, where it can, `fork_shared_s` and `fork_separate_s`. Standard error is for people.
"""

import asyncio
import json
import shlex
from dataclasses import asdict
from pathlib import Path

from asterism.orchestrator.core.errors import InvalidField
from asterism.workers.bench.cases import SEED, Figures, Plan


async def measure_peer(command: str, folder: Path, *, plan: Plan, os_threads: int, work: Path) -> tuple[str, Figures]:
    """The peer's name and figures. Raises `InvalidField` naming the command that failed or printed something else."""
    spec = work / "peer.json"
    spec.write_text(json.dumps({"folder": str(folder), "os_threads": os_threads, "plan": asdict(plan), "seed": SEED}))
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command), str(spec), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise InvalidField("peer", f"{command!r} ended with {process.returncode}")
    try:
        answer = json.loads(printed.splitlines()[-1])
        rates = {int(batch): float(rate) for batch, rate in answer["tokens_per_s"].items()}
        shared, separate = answer.get("fork_shared_s"), answer.get("fork_separate_s")
        return str(answer["engine"]), Figures(rates, fork_shared_s=shared, fork_separate_s=separate)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvalidField("peer", f"{command!r} printed no figures: {printed[-200:]!r}") from error
