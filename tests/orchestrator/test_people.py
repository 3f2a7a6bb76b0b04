"""Approvals and pauses over the wire: they outlast the orchestrator, and nobody answers for somebody else."""

from pathlib import Path

import pytest

from asterism.orchestrator.core.constellation import PLAN_STAR
from asterism.orchestrator.core.edits import AddStar, EditBatch
from asterism.orchestrator.core.errors import InvalidField, NotFound, WrongState
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import ConstellationPaused, EditsApplied
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import Constant, StarKind, StarSpec
from asterism.protocol.client import AsyncClient
from asterism.store.memory import MemoryStore
from tests.orchestrator.serving import PLAN, Peer, served

ASK = StarId("ask")
APPROVAL = StarSpec(ASK, StarKind.APPROVAL, "approval", {"question": Constant("may I?")})


async def asked(address: str, client: AsyncClient) -> ConstellationId:
    """A request that waits for a person and for nothing else."""
    submitted = await client.submit(Request("plan", PLAN))
    await client.edit(submitted.constellation, EditBatch((AddStar(APPROVAL),)), "somebody should look")
    async with Peer(address) as peer:
        worker = await peer.attach()
        await worker.finish((await worker.assignment()).fencing_token)
        while not (await worker.read()).acknowledged:
            pass
    return submitted.constellation


async def test_answer_of_a_person_outlasts_the_orchestrator(tmp_path: Path) -> None:
    store = MemoryStore()
    async with served(tmp_path, store) as first, AsyncClient(first.address) as client:
        constellation = await asked(first.address, client)
        await client.pause(constellation, "night")
        waiting = (await client.get(constellation)).waiting_for
        assert waiting == {ASK: f"a decision: asterism approve {constellation} ask, or reject"}
    async with served(tmp_path, store) as second, AsyncClient(second.address) as client:
        paused = (await client.get(constellation)).constellation
        assert paused.pause is not None
        assert (paused.pause.by, paused.pause.reason) == ("client:local", "night")
        await client.decide(constellation, ASK, approve=True, reason="it is right", value=[1])
        await client.decide(constellation, ASK, approve=True)
        with pytest.raises(WrongState, match="decided already"):
            await client.decide(constellation, ASK, approve=False)
        ended = await client.wait(constellation)
        assert ended.state is ConstellationState.SUCCEEDED
        answer = (await client.get(constellation)).constellation.answer()
        assert answer == {ASK: {"approved": True, "by": "client:local", "reason": "it is right", "value": [1]}}
        journal = [record async for record in client.watch(constellation)]
        assert [record.by for record in journal if isinstance(record, ConstellationPaused)] == ["client:local"]
        reasons = [record.reason for record in journal if isinstance(record, EditsApplied)]
        assert reasons == ["", "somebody should look"]


async def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path) -> None:
    async with served(tmp_path) as running, AsyncClient(running.address) as client:
        constellation = (await client.submit(Request("plan", PLAN))).constellation
        with pytest.raises(InvalidField, match="only approvals are decided"):
            await client.decide(constellation, PLAN_STAR, approve=True)
        with pytest.raises(NotFound):
            await client.decide(constellation, StarId("nobody"), approve=True)
        with pytest.raises(InvalidField, match="reason"):
            await client.pause(constellation, "x" * 2000)
        with pytest.raises(NotFound):
            await client.pause(ConstellationId("c0"))
        await client.cancel(constellation)
        with pytest.raises(WrongState, match="ended already"):
            await client.pause(constellation)
