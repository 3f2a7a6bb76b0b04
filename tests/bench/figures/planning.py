"""Figures of plans and rewrites: from a line's newline to its star's worker, and dispatch while a model thinks."""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

from asterism.orchestrator.clock import SystemClock
from asterism.orchestrator.core.edits import AddStar, EditBatch
from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.events import EditsProposed, RequestSubmitted, WorkerAttached
from asterism.orchestrator.core.ids import ConstellationId, StarId, WorkerId
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.star import StarKind, StarSpec, StarState, Timeouts
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.outbox import WorkerOutbox
from asterism.protocol.client import AsyncClient
from asterism.store.sql import SqlStore
from asterism.workers.engine.http_server import serving as serving_models
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import GenerationRequest
from tests.bench.figures.live import NO_LIMITS
from tests.bench.figures.peers import HOLD, HoldingWorker, holding
from tests.bench.graphs.product import BUDGET, serving
from tests.processes import attached

LINES: Final = 60
TICK_S: Final = 0.1
STEPS_A_LINE: Final = 3
"""Tokens of the recital: `sK`, ` =`, ` tool.hold(n=K)`; a line's newline comes with the first token of the next one."""
THINKS_S: Final = 2.0
EDITS: Final = 60
ROUNDS: Final = 300


@asynccontextmanager
async def planned(
    database: str, url: str | None, script: str
) -> AsyncIterator[tuple[asyncio.Semaphore, AsyncClient, ScriptedEngine, HoldingWorker]]:
    """An orchestrator, a worker whose model recites `script` step by step, and one that holds what it is given.

    The semaphore is released with each request to the model.
    """
    asked = asyncio.Semaphore(0)

    def answer(request: GenerationRequest) -> str:
        asked.release()
        return script

    engine = ScriptedEngine(answer, model="big", context_tokens=32_768, paced=True)
    await engine.start()
    async with (
        serving_models({"big": engine}) as models,
        serving(database, url, *NO_LIMITS, workers=()) as (running, client),
        holding(running.address, ["holder"], 4096) as (holder,),
    ):
        (running.folder / "worker.toml").write_text(f'[models.big]\nurl = "{models}"\n')
        told = ("--model", "big", "--label", "planner=big", "--config", str(running.folder / "worker.toml"))
        running.start_worker("planner", *told, "--log-level", "warning")
        await attached(client, 2)
        yield asked, client, engine, holder
    await engine.close()


async def streaming(database: str, url: str | None) -> dict[str, Any]:
    """A model writes a line each 100 ms: from a line's newline to the arrival of its star at the worker."""
    script = "\n".join(f"s{number} = tool.{HOLD}(n={number})" for number in range(LINES)) + "\n# end"
    async with planned(database, url, script) as (asked, client, engine, holder):
        await client.submit(Request("text", "hold on"))
        await asked.acquire()
        ended = dict[str, float]()
        await engine.allow(STEPS_A_LINE)
        for number in range(LINES):
            await asyncio.sleep(TICK_S)
            # What ends this line, and all but the end of the next one.
            ended[f"s{number}"] = time.monotonic()
            await engine.allow(STEPS_A_LINE)
        await _arrival(holder, f"s{LINES - 1}")
    spent = sorted(1e3 * (holder.arrived[star] - at) for star, at in ended.items())
    return {"newline_to_worker_ms_p50": round(statistics.median(spent), 2), "p90": round(spent[int(0.9 * LINES)], 2)}


async def overlap(database: str, url: str | None) -> dict[str, Any]:
    """From a client's edit to the arrival of its star at the worker: at rest, and while a model thinks about edits."""
    script = json.dumps({"thought": "leave it", "edits": []})
    plan = {"stars": [{"id": "first", "kind": "tool", "program": HOLD}], "replan": {"model": "big"}}
    async with planned(database, url, script) as (asked, client, engine, holder):
        constellation = (await client.submit(Request("plan", json.dumps(plan)))).constellation
        await _arrival(holder, "first")
        await _latencies(client, holder, constellation, "warm")
        rest: list[float] = []
        thinking: list[float] = []
        for round_ in range(3):
            rest += await _latencies(client, holder, constellation, f"rest{round_}-")
            await client.replan(constellation, "think")
            await asked.acquire()
            began = time.monotonic()
            thinking += await _latencies(client, holder, constellation, f"busy{round_}-")
            await asyncio.sleep(max(0.0, THINKS_S - (time.monotonic() - began)))
            await engine.allow(100)
            picture = await client.get(constellation)
            while picture.constellation.stars[StarId(f"replan.{round_ + 1}")].state is not StarState.SUCCEEDED:
                await asyncio.sleep(0.05)
                picture = await client.get(constellation)
    at_rest, while_thinking = statistics.median(rest), statistics.median(thinking)
    return {
        "at_rest_ms_p50": round(1e3 * at_rest, 2),
        "while_a_model_thinks_ms_p50": round(1e3 * while_thinking, 2),
        "ratio": round(while_thinking / at_rest, 3),
    }


async def _arrival(holder: HoldingWorker, star: str) -> float:
    while star not in holder.arrived:
        holder.has_assignment.clear()
        await holder.has_assignment.wait()
    return holder.arrived[star]


async def _latencies(
    client: AsyncClient, holder: HoldingWorker, constellation: ConstellationId, prefix: str
) -> list[float]:
    spent: list[float] = []
    for number in range(EDITS):
        star = f"{prefix}{number}"
        began = time.monotonic()
        await client.edit(constellation, EditBatch((_held(star),)))
        spent.append(await _arrival(holder, star) - began)
        await asyncio.sleep(0.01)
    return spent


def _held(star: str) -> AddStar:
    return AddStar(StarSpec(StarId(star), StarKind.TOOL, HOLD, timeouts=Timeouts(start_to_close_s=None)))


async def ready(database: str, url: str | None) -> dict[str, Any]:
    """Inside the orchestrator: from a star's proposal in the mailbox to its assignment in the outbox, on disk."""
    clock = SystemClock()
    worker = WorkerId("w")
    with tempfile.TemporaryDirectory() as folder:
        synchronous: Literal["FULL", "NORMAL"] = "NORMAL" if database == "sqlite-normal" else "FULL"
        store = SqlStore(url or Path(folder) / "asterism.db", synchronous=synchronous)
        await store.open()
        try:
            machine = Machine(await store.load(), at=clock.now(), lease_s=3600.0)
            loop = Loop(machine=machine, store=store, clock=clock, epoch=await store.acquire_epoch())
            async with asyncio.TaskGroup() as group:
                group.create_task(loop.run())
                outbox = WorkerOutbox(worker, "i", 4096)
                profile = WorkerProfile(4096, tools=(HOLD,), programs=("plan",))
                await loop.attach(WorkerAttached(clock.now(), worker, "i", profile), outbox)
                plan = StarSpec(StarId("plan"), StarKind.PLAN, "plan", may_edit=True)
                accepted = RequestSubmitted(
                    clock.now(), ConstellationId("c"), "r", "me", Request("plan", ""), BUDGET, plan
                )
                await loop.ask(accepted)
                (first,) = await outbox.take(9)
                assert isinstance(first, Assign)
                spent: list[float] = []
                for number in range(ROUNDS):
                    batch = EditBatch((_held(f"s{number}"),))
                    began = time.perf_counter()
                    loop.tell(EditsProposed(clock.now(), worker, first.fencing_token, number, batch), outbox)
                    while not any(isinstance(effect, Assign) for effect in await outbox.take(9)):
                        pass
                    spent.append(1e3 * (time.perf_counter() - began))
                loop.stop()
        finally:
            await store.close()
    spent.sort()
    return {
        "proposed_to_assigned_ms_p50": round(statistics.median(spent), 3),
        "p90": round(spent[int(0.9 * ROUNDS)], 3),
    }
