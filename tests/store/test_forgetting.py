"""What every store does when it is told to forget, in memory or in a database."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.orchestrator.core.edits import AddLine, AddStar, Edit
from asterism.orchestrator.core.errors import WrongState
from asterism.orchestrator.core.events import AttemptFailed
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import TaskStarLine
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import (
    AttemptLeased,
    ConstellationEnded,
    EditsApplied,
    Record,
    StarFinished,
    WorkerDraining,
    WorkerJoined,
    WorkerLabelled,
    WorkerLeft,
)
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import AttemptOutcome, StarError, StarKind, StarSpec, StarState
from asterism.orchestrator.core.state import State
from asterism.orchestrator.core.values import Artifact, Result
from asterism.store.memory import MemoryStore
from asterism.store.schema import METADATA
from asterism.store.sql import SqlStore
from tests.store.conftest import AnyStore
from tests.store.histories import ARTIFACT, LEASE_S, History, histories, seeded_history
from tests.store.pictures import assert_same, folded
from tests.store.test_contract import NOBODY, accepted, assert_holds, cancelled_history, fill

FAR = 1e9
"""A time at which all that has ended has ended long ago."""
PART = 7
LARGE = ConstellationId("c1")


def ended_of(state: State, before: float = FAR) -> set[ConstellationId]:
    """What may be forgotten."""
    held = {lease.constellation for worker in state.workers.values() for lease in worker.running.values()}
    return {
        one.id
        for one in state.constellations.values()
        if one.ended_at is not None and one.ended_at < before and one.id not in held
    }


async def forget_all(store: AnyStore, before: float = FAR, spared: frozenset[ConstellationId] = frozenset()) -> None:
    """Call by call, until nothing is left to forget."""
    for _ in range(10_000):
        if not await store.forget(before, spared, PART, 1):
            return
    raise AssertionError("it never ends")


async def assert_forgot(
    store: AnyStore, records: list[Record], gone: set[ConstellationId], *, shares: bool = False
) -> None:
    """The rest is as it was, and of what is gone nothing is found; `shares`: others may have its request_id."""
    state = folded(records)
    snapshot = await store.load()
    assert snapshot.last_seq == state.last_seq
    assert snapshot.last_fencing_token == state.last_fencing_token
    assert [worker.id for worker in snapshot.workers] == sorted(state.workers)
    left = [one for one in state.constellations.values() if one.id not in gone]
    for constellation in left:
        found = await store.find_constellation(constellation.id)
        assert found is not None
        assert_same(found, deepcopy(constellation))
        assert await store.find_request(constellation.owner, constellation.request_id) == constellation.id
    listed = await store.list_constellations(owner=None, states=(), before=None, limit=1000)
    assert {summary.id for summary in listed} == {one.id for one in left}
    for name in gone:
        of = state.constellations[name]
        assert await store.find_constellation(name) is None
        assert shares or await store.find_request(of.owner, of.request_id) is None
        assert await store.read_journal(name, after_seq=0, limit=1) == []
        assert [await store.find_artifact(name, star) for star in of.stars] == [None] * len(of.stars)
    results = [star.result for one in left for star in one.stars.values()]
    assert await store.list_artifacts() == {result for result in results if isinstance(result, Artifact)}
    journal = await store.read_whole_journal(after_seq=0, limit=len(records))
    assert journal == [record for record in records if record in journal]
    assert {of_constellation(record) for record in journal} - {None} == {one.id for one in left}
    assert [record for record in records if of_constellation(record) in {one.id for one in left}] == [
        record for record in journal if of_constellation(record) is not None
    ]


def of_constellation(record: Record) -> ConstellationId | None:
    """What the record is of, unless it is of a worker."""
    if isinstance(record, WorkerJoined | WorkerLeft | WorkerDraining | WorkerLabelled):
        return None
    return record.constellation


@pytest.mark.parametrize("seed", range(4))
async def test_only_what_ended_before_is_forgotten_and_whole(store: AnyStore, seed: int) -> None:
    records = await fill(store, seeded_history(seed, 300))
    ends = sorted(one.ended_at or 0.0 for one in folded(records).constellations.values() if one.state.is_terminal)
    before = ends[len(ends) // 2]
    gone = ended_of(folded(records), before)
    assert gone
    await forget_all(store, before)
    await assert_forgot(store, records, gone)
    await forget_all(store)
    await assert_forgot(store, records, ended_of(folded(records)))


@settings(max_examples=25, deadline=None)
@given(history=histories(), share=st.floats(0, 1), in_memory=st.booleans())
async def test_any_history_forgets_what_it_should(history: History, share: float, in_memory: bool) -> None:
    store = MemoryStore() if in_memory else SqlStore(":memory:")
    await store.open()
    try:
        records = await fill(store, history)
        times = [record.at for record in records] or [0.0]
        before = times[0] + share * (times[-1] - times[0])
        await forget_all(store, before)
        await assert_forgot(store, records, ended_of(folded(records), before))
    finally:
        await store.close()


async def test_what_goes_on_after_a_part_was_forgotten_is_stored_as_ever(store: AnyStore) -> None:
    history = seeded_history(2, 150)
    records = await fill(store, history)
    gone = ended_of(folded(records))
    await forget_all(store)
    # As an orchestrator that starts now.
    snapshot = await store.load()
    history.machine = Machine(snapshot, at=history.at, lease_s=LEASE_S)
    history.submitted += 1000
    history.batches = []
    for _ in range(100):
        history.step()
    for batch in history.batches:
        assert batch[0].seq > records[-1].seq
        await store.append(batch, 1)
        records += batch
    await assert_forgot(store, records, gone)


async def test_spared_ones_stay_until_they_are_not(store: AnyStore) -> None:
    records = await fill(store, seeded_history(1, 300))
    ended = ended_of(folded(records))
    spared = frozenset(sorted(ended)[::2])
    assert spared
    assert ended - spared
    await forget_all(store, spared=spared)
    await assert_forgot(store, records, ended - spared)
    await forget_all(store)
    await assert_forgot(store, records, ended)


async def test_a_call_takes_a_bounded_part_of_the_oldest(store: AnyStore) -> None:
    names = [ConstellationId(f"c{number:02}") for number in range(1, 31)]
    records: list[Record] = [accepted(seq, name) for seq, name in enumerate(names, start=1)]
    # The later ones end first.
    records += [
        ConstellationEnded(30 + number, 100.0 + number, name, ConstellationState.FAILED, "")
        for number, name in enumerate(reversed(names), start=1)
    ]
    await store.append(records, await store.acquire_epoch())
    taken: list[ConstellationId] = []
    while part := await store.forget(FAR, (), PART, 1):
        assert len(part) <= PART
        taken += part
    assert taken == names[::-1]


async def test_a_large_one_is_out_of_sight_at_once_and_goes_in_parts(store: AnyStore) -> None:
    records = chain_of(40)
    epoch = await store.acquire_epoch()
    for record in records:  # a page each
        await store.append([record], epoch)
    again = accepted(records[-1].seq + 1, "c2")
    calls = 0
    while await store.forget(FAR, (), PART, epoch):
        calls += 1
        assert await store.find_constellation(LARGE) is None
        assert await store.find_request("ann", f"request {LARGE}") == ("c2" if calls > 1 else None)
        assert await store.find_artifact(LARGE, StarId("s0")) is None
        if calls == 1:
            # Its request_id is free at once.
            await store.append([replace(again, request_id=f"request {LARGE}")], epoch)
        listed = await store.list_constellations(owner=None, states=(), before=None, limit=9)
        assert [summary.id for summary in listed] == ["c2"]
        assert [one.id for one in (await store.load()).constellations] == ["c2"]
    assert isinstance(store, MemoryStore) or calls > 40 // PART
    await assert_forgot(store, [*records, replace(again, request_id=f"request {LARGE}")], {LARGE}, shares=True)


async def test_forgetting_of_a_large_one_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = SqlStore(tmp_path / "asterism.db")
    await store.open()
    records = chain_of(40)
    await store.acquire_epoch()
    for record in records:
        await store.append([record], 1)
    assert await store.forget(FAR, (), PART, 1) == [LARGE]
    await store.close()
    again = SqlStore(tmp_path / "asterism.db")
    await again.open()
    await forget_all(again)
    assert await counted(again) == {"workers": 1, "orchestrator": 1, "leadership": 1, "forgotten": 1}
    assert (await again.load()).last_seq == records[-1].seq
    await again.close()


async def test_nothing_is_left_of_what_was_forgotten_but_workers_and_counters(store: AnyStore) -> None:
    records = await fill(store, seeded_history(0, 300))
    for _ in records:  # each time some of the old news of workers go, too
        await forget_all(store)
    left = set(folded(records).constellations) - ended_of(folded(records))
    journal = await store.read_whole_journal(after_seq=0, limit=len(records))
    assert {of_constellation(record) for record in journal} == left
    if isinstance(store, SqlStore):
        rows = await counted(store)
        assert rows["requests"] == rows["constellations"] == len(left)
        assert rows["forgotten"] == 1


async def test_what_still_holds_a_slot_is_kept_until_it_does_not(store: AnyStore) -> None:
    history = cancelled_history()
    records = await fill(store, history)
    assert await store.forget(FAR, (), PART, 1) == []
    assert len((await store.load()).constellations) == 1
    (token,) = history.held
    history.give(AttemptFailed(history.at, history.held[token], token, StarError("stopped", ""), is_stopped=True))
    await store.append(history.batches[-1], 1)
    assert await store.forget(FAR, (), PART, 1) == ["c1"]
    await assert_forgot(store, [*records, *history.batches[-1]], {ConstellationId("c1")})


async def test_one_who_leads_no_more_forgets_nothing(store: AnyStore) -> None:
    records = await fill(store, seeded_history(0, 100))
    await store.acquire_epoch()
    with pytest.raises(WrongState, match="taken over"):
        await store.forget(FAR, (), PART, 1)
    await assert_holds(store, records)


async def test_an_append_that_is_refused_after_a_part_was_forgotten_changes_nothing(store: AnyStore) -> None:
    records = await fill(store, seeded_history(3, 200))
    await forget_all(store)
    gone = ended_of(folded(records))
    with pytest.raises(WrongState):
        await store.append([ConstellationEnded(records[-1].seq + 1, 1.0, NOBODY, ConstellationState.FAILED, "")], 1)
    await assert_forgot(store, records, gone)


async def test_a_seq_is_not_used_again_after_its_record_was_forgotten(store: AnyStore) -> None:
    records = chain_of(3)
    epoch = await store.acquire_epoch()
    await store.append(records, epoch)
    await forget_all(store)
    assert await store.read_whole_journal(after_seq=0, limit=9) == []
    assert (await store.load()).last_seq == records[-1].seq


def chain_of(stars: int) -> list[Record]:
    """One request of a chain of stars that has run to its end, and whose first result is an artifact."""
    worker = WorkerId("w1")
    names = [StarId(f"s{number}") for number in range(stars)]
    edits: list[Edit] = [AddStar(StarSpec(name, StarKind.TOOL, "t")) for name in names]
    edits += [AddLine(TaskStarLine(parent, child)) for parent, child in pairwise(names)]
    records: list[Record] = [
        WorkerJoined(1, 1.0, worker, "i1", WorkerProfile(2)),
        accepted(2, LARGE),
        EditsApplied(3, 2.0, LARGE, 1, "client:ann", tuple(edits)),
    ]
    outcome = AttemptOutcome.SUCCEEDED
    for number, name in enumerate(names):
        result: Result = None if number else ARTIFACT
        seq, token = records[-1].seq + 1, FencingToken(number + 1)
        records.append(AttemptLeased(seq, 3.0, LARGE, name, 1, worker, token))
        records.append(StarFinished(seq + 1, 3.0, LARGE, name, StarState.SUCCEEDED, result, None, 1, outcome, True))
    records.append(ConstellationEnded(records[-1].seq + 1, 4.0, LARGE, ConstellationState.SUCCEEDED, ""))
    return records


async def counted(store: SqlStore) -> dict[str, int]:
    """Rows of each table that has any."""

    def count(connection: sa.Connection) -> dict[str, int]:
        rows = {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in METADATA.sorted_tables
        }
        return {name: number for name, number in rows.items() if number}

    return await store._database.read(count)  # pyright: ignore[reportPrivateUsage]  # there is no other way in
