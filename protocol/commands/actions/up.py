"""Keeps an orchestrator and workers on this machine until Ctrl-C."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

from asterism.orchestrator.core.errors import Misconfigured
from asterism.protocol.channel import is_loopback
from asterism.protocol.commands.actions.local import (
    LocalFleet,
    LocalSetup,
    all_joined,
    claim_data_folder,
    local_fleet,
    missing_extras,
)
from asterism.protocol.commands.actions.running import Interrupts, run_to_exit
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output


def up(
    data_dir: Path | None, listen: str, workers: int, slots: int | None, models: tuple[str, ...], output: Output
) -> None:
    """Runs until a signal, or until a child ends."""
    if missing := missing_extras():
        raise Misconfigured("up", f"it needs pip install 'asterism[{','.join(missing)}]'")
    if not is_loopback(listen.rpartition(":")[0].strip("[]")):  # `serve` checks the rest of it
        raise Misconfigured("--listen", "`up` is for this machine alone; for others there are `serve` and `work`")
    interrupts = Interrupts()
    run_to_exit(_up(interrupts, data_dir, listen, workers, slots, models, output), interrupts)


async def _up(
    interrupts: Interrupts,
    data_dir: Path | None,
    listen: str,
    workers: int,
    slots: int | None,
    models: tuple[str, ...],
    output: Output,
) -> ExitCode:
    with ExitStack() as stack:
        claim = None
        if data_dir is None:
            claim = stack.enter_context(claim_data_folder())
            if claim.held_by is not None:
                raise Misconfigured("--data-dir", f"an orchestrator at {claim.held_by} uses {claim.folder} already")
            if claim.lock is None:
                raise Misconfigured("--data-dir", "an `asterism run` uses the data folder just now; give another one")
        folder = data_dir if claim is None else claim.folder
        assert folder is not None, "one of the two is there"
        setup = LocalSetup(folder, listen=listen, workers=workers, slots=slots, worker_arguments=models)
        async with local_fleet(setup) as fleet:
            if claim is not None:
                claim.publish(fleet.address)
            await fleet.guard(_keep(interrupts, fleet, workers, folder, output))
    return ExitCode.SUCCEEDED


async def _keep(interrupts: Interrupts, fleet: LocalFleet, workers: int, folder: Path, output: Output) -> None:
    """Says when all is ready, and waits for a signal."""
    from asterism.protocol.client import AsyncClient

    async with AsyncClient(fleet.address) as client:
        await all_joined(client, workers)
    with interrupts.listening():  # before the ready line: who reads it may end this at once
        if output is Output.JSON:
            ready = {"address": fleet.address, "workers": workers, "data_dir": str(folder), "pids": fleet.process_ids}
            sys.stdout.write(json.dumps(ready) + "\n")
        else:
            sys.stdout.write(f"asterism is ready at {fleet.address} with {workers} workers (Ctrl-C ends it)\n")
        sys.stdout.flush()
        await interrupts.first()
