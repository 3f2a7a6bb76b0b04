"""One hard question on several machines: its threads become stars, and run on workers that did not ask it."""

import json
import signal
from typing import Any

import pytest

from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import AttemptLeased, ConstellationEnded, Record
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.protocol.answers import StreamedText
from asterism.protocol.client import AsyncClient
from tests.processes import Fleet, attached

pytestmark = pytest.mark.timeout(240)

MARKS = {
    "glue": " ",
    "opening": "{thread_opens} {number} : {outline} left",
    "entry": "{entry_opens} {number} : {outline} {entry_closes}",
    "closes_block": True,
    "after_join": "<Answer>",
}
"""Of the shipped model, whose tokens are words."""
DECLARED = {
    "marks": MARKS,
    "stop": ["</Answer>"],
    "opens_with": "<Parallel> <Outlines>",
    "limits": {"threads": 4, "at_once": 4, "tokens_a_thread": 60, "tokens_parent": 200, "tail_tokens": 24},
}
# As if each of many threads were long, and the machine slow: the rule is tested elsewhere.
AWAY = {"workers": 3, "tokens": 4_000, "requires": ["label:role=helper"], "rates": {"text_s": 0.01}}


def question() -> Request:
    star = {
        "id": "ask",
        "kind": "reason",
        "program": "reason.text",
        "requires": ["model:countdown", "label:role=asker"],
        "may_edit": True,
        "inputs": {"prompt": "<Board> 3 4 6 8 -> 24", "declared": DECLARED, "away": AWAY},
    }
    return Request("plan", json.dumps({"stars": [star]}))


async def watched(client: AsyncClient, constellation: ConstellationId) -> tuple[list[Record], set[str]]:
    """The records, and the stars that streamed text."""
    records: list[Record] = []
    said: set[str] = set()
    async for record in client.watch(constellation):
        if isinstance(record, StreamedText):
            said.add(record.star)
        else:
            records.append(record)
    return records, said


def start_workers(running: Fleet) -> None:
    running.start_worker("asker", "--model", "countdown", "--slots", "1", "--label", "role=asker")
    for name in ("bob", "eve"):
        running.start_worker(name, "--model", "countdown", "--slots", "1", "--label", "role=helper")


async def answer_of(client: AsyncClient, constellation: ConstellationId) -> dict[str, Any]:
    picture = await client.get(constellation)
    stars = {str(star): one for star, one in picture.constellation.stars.items()}
    result = stars["ask.join"].result
    assert isinstance(result, dict)
    return result


async def test_threads_of_a_question_run_on_workers_that_were_idle(running: Fleet) -> None:
    start_workers(running)
    async with AsyncClient(running.address) as client:
        await attached(client, 3)
        submitted = await client.submit(question())
        records, said = await watched(client, submitted.constellation)
        joined = await answer_of(client, submitted.constellation)
    ended = records[-1]
    assert isinstance(ended, ConstellationEnded)
    assert ended.state is ConstellationState.SUCCEEDED, ended.reason
    workers = {str(record.star): str(record.worker) for record in records if isinstance(record, AttemptLeased)}
    assert workers["ask"] == "asker"
    children = {worker for star, worker in workers.items() if star.startswith("ask.t")}
    assert children == {"bob", "eve"}
    threads = [thread for thread in joined["threads"] if thread is not None]
    assert len(threads) == len([star for star in workers if star.startswith("ask.t")]) >= 2
    assert joined["missing"] == 0
    assert joined["text"].count("<Thread>") == len(threads)
    assert joined["tail"].split()
    assert joined["accounting"]["stars"] == len(threads) + 2
    assert joined["accounting"]["critical_path_tokens"] < joined["accounting"]["total_tokens"]
    assert {"ask.t1", "ask.t2", "ask.join"} <= said


async def test_a_worker_killed_with_a_thread_costs_an_attempt_and_no_answer(running: Fleet) -> None:
    start_workers(running)
    bob = running.children[2]
    async with AsyncClient(running.address) as client:
        await attached(client, 3)
        # Stopped, so that it certainly holds its thread when it is killed.
        bob.signal(signal.SIGSTOP)
        submitted = await client.submit(question())
        async for record in client.watch(submitted.constellation, with_text=False):
            if isinstance(record, AttemptLeased) and record.worker == "bob":
                break
        bob.kill()
        records, _ = await watched(client, submitted.constellation)
        joined = await answer_of(client, submitted.constellation)
    ended = records[-1]
    assert isinstance(ended, ConstellationEnded)
    assert ended.state is ConstellationState.SUCCEEDED, ended.reason
    leases = [record for record in records if isinstance(record, AttemptLeased)]
    lost = {record.star for record in leases if record.worker == "bob"}
    assert lost
    assert {record.worker for record in leases if record.star in lost} == {"bob", "eve"}
    assert joined["missing"] == 0
    assert joined["tail"].split()
