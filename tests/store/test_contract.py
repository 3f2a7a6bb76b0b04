"""What every store does, in memory or in a database."""

from copy import deepcopy
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings

from asterism.orchestrator.core.constellation import PLAN_STAR
from asterism.orchestrator.core.credential import Role, StoredCredential
from asterism.orchestrator.core.errors import AlreadyExists, NotFound, WrongState
from asterism.orchestrator.core.events import AttemptFailed, CancelRequested, RequestSubmitted, WorkerAttached
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import (
    AttemptLeased,
    ConstellationEnded,
    Record,
    RequestAccepted,
    SlotReleased,
    StarFinished,
    WorkerJoined,
    WorkerLeft,
)
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.star import AttemptOutcome, StarError, StarKind, StarSpec, StarState
from asterism.orchestrator.core.values import Artifact
from asterism.orchestrator.store import Store
from asterism.store.memory import MemoryStore
from asterism.store.sql import SqlStore
from tests.store.conftest import AnyStore
from tests.store.histories import History, histories, seeded_history
from tests.store.pictures import assert_same, folded

NOBODY = ConstellationId("c999")


def accepted(seq: int, name: str, owner: str = "ann") -> RequestAccepted:
    request = Request("boards", "text", f"file of {name}")
    return RequestAccepted(seq, float(seq), ConstellationId(name), f"request {name}", owner, request, Budget())


def credential(name: str, secret: bytes, *, created_at: float = 1.0, expires_at: float = 9.0) -> StoredCredential:
    return StoredCredential(name, Role.CLIENT, secret, created_at, expires_at)


async def fill(store: AnyStore, history: History) -> list[Record]:
    """Append a history as its machine made it; gives all records."""
    epoch = await store.acquire_epoch()
    for batch in history.batches:
        await store.append(batch, epoch)
    return [record for batch in history.batches for record in batch]


async def assert_holds(store: AnyStore, records: list[Record]) -> None:
    """The store's pictures are those of the fold."""
    state = folded(records)
    snapshot = await store.load()
    assert snapshot.last_seq == state.last_seq
    assert snapshot.last_fencing_token == state.last_fencing_token
    known = {worker.id: worker for worker in state.workers.values()}
    assert [worker.id for worker in snapshot.workers] == sorted(known)
    for worker in snapshot.workers:
        other = known[worker.id]
        assert (worker.instance, worker.profile, worker.has_left, worker.is_draining, worker.labels) == (
            other.instance,
            other.profile,
            other.has_left,
            other.is_draining,
            other.labels,
        )
    busy = {
        lease.constellation
        for worker in state.workers.values()
        for lease in worker.running.values()
        if lease.constellation in state.constellations
    }
    live = sorted(c.id for c in state.constellations.values() if not c.state.is_terminal or c.id in busy)
    assert [constellation.id for constellation in snapshot.constellations] == live
    for loaded in snapshot.constellations:
        assert_same(loaded, deepcopy(state.constellations[loaded.id]))
    for constellation in state.constellations.values():
        found = await store.find_constellation(constellation.id)
        assert found is not None
        assert_same(found, deepcopy(constellation))
        assert await store.find_request(constellation.owner, constellation.request_id) == constellation.id
    assert await store.read_whole_journal(after_seq=0, limit=len(records) + 1) == records


def satisfies_the_seam(store: AnyStore) -> Store:
    """For the type checkers: both are the loop's store."""
    return store


async def test_empty_store_loads_nothing(store: AnyStore) -> None:
    assert await store.load() == Snapshot((), (), 0, FencingToken(0))
    assert await store.find_constellation(NOBODY) is None
    assert await store.find_request("ann", "r1") is None
    assert await store.read_journal(NOBODY, after_seq=0, limit=9) == []


@pytest.mark.parametrize("seed", range(4))
async def test_pictures_equal_the_fold_of_the_journal(store: AnyStore, seed: int) -> None:
    records = await fill(store, seeded_history(seed, 150))
    await assert_holds(store, records)


async def test_one_append_of_everything_gives_the_same_as_many(store: AnyStore) -> None:
    records = [record for batch in seeded_history(11, 200).batches for record in batch]
    await store.append(records, await store.acquire_epoch())
    await assert_holds(store, records)


@settings(max_examples=25, deadline=None)
@given(history=histories())
async def test_any_history_in_a_database_equals_its_fold(history: History) -> None:
    store = SqlStore(":memory:")
    await store.open()
    try:
        await assert_holds(store, await fill(store, history))
    finally:
        await store.close()


@settings(max_examples=25, deadline=None)
@given(history=histories())
async def test_any_history_in_memory_equals_its_fold(history: History) -> None:
    store = MemoryStore()
    await assert_holds(store, await fill(store, history))


async def test_loaded_graph_is_the_callers_own(store: AnyStore) -> None:
    records = await fill(store, seeded_history(3, 60))
    for constellation in (await store.load()).constellations:
        constellation.stars.clear()
    await assert_holds(store, records)


async def test_bad_record_in_the_middle_changes_nothing(store: AnyStore) -> None:
    history = seeded_history(5, 80)
    records = await fill(store, history)
    seq, token = records[-1].seq, (await store.load()).last_fencing_token
    bad = AttemptLeased(seq + 2, 1.0, NOBODY, StarId("a"), 1, WorkerId("w1"), FencingToken(token + 1))
    batch: list[Record] = [accepted(seq + 1, "c500"), bad, accepted(seq + 3, "c501")]
    with pytest.raises(WrongState):
        await store.append(batch, 1)
    await assert_holds(store, records)
    await store.append([accepted(seq + 1, "c500")], 1)


async def test_record_about_something_unknown_is_refused(store: AnyStore) -> None:
    epoch = await store.acquire_epoch()
    await store.append([accepted(1, "c1")], epoch)
    star = StarId("ghost")
    unknown: list[Record] = [
        StarFinished(2, 2.0, NOBODY, star, StarState.CANCELLED, None, None, None, None, True),
        SlotReleased(2, 2.0, NOBODY, star, 1),
        ConstellationEnded(2, 2.0, NOBODY, ConstellationState.FAILED, "x"),
        WorkerLeft(2, 2.0, WorkerId("ghost"), "x"),
    ]
    for bad in unknown:
        with pytest.raises(WrongState):
            await store.append([bad], epoch)
    assert (await store.load()).last_seq == 1


async def test_artifacts_are_found_with_their_owners_and_listed(store: AnyStore) -> None:
    records = await fill(store, seeded_history(2, 400))
    stars = [
        (constellation, star)
        for constellation in folded(records).constellations.values()
        for star in constellation.stars.values()
    ]
    found = {
        (constellation.id, star.spec.id): await store.find_artifact(constellation.id, star.spec.id)
        for constellation, star in stars
    }
    expected = {
        (constellation.id, star.spec.id): (constellation.owner, star.result)
        if isinstance(star.result, Artifact)
        else None
        for constellation, star in stars
    }
    assert found == expected
    assert len({entry for entry in expected.values() if entry is not None}) > 1
    assert await store.list_artifacts() == {entry[1] for entry in expected.values() if entry is not None}
    assert await store.find_artifact(NOBODY, StarId("a")) is None


async def test_seq_is_used_once(store: AnyStore) -> None:
    epoch = await store.acquire_epoch()
    await store.append([accepted(1, "c1")], epoch)
    again = ConstellationEnded(1, 1.0, ConstellationId("c1"), ConstellationState.FAILED, "again")
    for repeated in ([accepted(1, "c2")], [again], [again, replace(again, seq=2)]):
        with pytest.raises(WrongState):
            await store.append(repeated, epoch)
    assert await store.find_constellation(ConstellationId("c2")) is None
    assert await store.read_whole_journal(after_seq=0, limit=9) == [accepted(1, "c1")]


async def test_append_of_nothing_is_fine(store: AnyStore) -> None:
    await store.append([], await store.acquire_epoch())
    assert (await store.load()).last_seq == 0


async def test_append_with_an_older_epoch_is_refused(store: AnyStore) -> None:
    older = await store.acquire_epoch()
    newer = await store.acquire_epoch()
    assert newer > older
    with pytest.raises(WrongState, match="taken over"):
        await store.append([accepted(1, "c1")], older)
    await store.append([accepted(1, "c1")], newer)


async def test_fencing_token_never_falls_back_when_its_star_is_gone(store: AnyStore) -> None:
    records = await fill(store, seeded_history(7, 200))
    tokens = [record.fencing_token for record in records if isinstance(record, AttemptLeased)]
    assert (await store.load()).last_fencing_token == max(tokens)


async def test_ended_constellation_is_loaded_while_an_attempt_holds_a_slot(store: AnyStore) -> None:
    history = cancelled_history()
    records = await fill(store, history)
    await assert_holds(store, records)
    (stopping,) = (await store.load()).constellations
    assert stopping.state is ConstellationState.CANCELLED

    (token,) = history.held
    error = StarError("stopped", "as told")
    history.give(AttemptFailed(history.at, history.held[token], token, error, is_stopped=True))
    await store.append(history.batches[-1], 1)
    assert (await store.load()).constellations == ()
    await assert_holds(store, [*records, *history.batches[-1]])


def cancelled_history() -> History:
    """A request that was cancelled while its star ran, and whose worker has not confirmed that it stopped."""
    history = History(Random(1))
    history.give(WorkerAttached(history.at, WorkerId("w1"), "i1", WorkerProfile(2, tools=("t",))))
    plan = StarSpec(PLAN_STAR, StarKind.TOOL, "t")
    request = Request("boards", "text")
    history.give(RequestSubmitted(history.at, ConstellationId("c1"), "r1", "ann", request, Budget(), plan))
    assert len(history.held) == 1
    held = dict(history.held)
    history.give(CancelRequested(history.at, ConstellationId("c1"), "enough"))
    history.held = held
    return history


async def test_list_pages_from_the_newest_and_filters(store: AnyStore) -> None:
    epoch = await store.acquire_epoch()
    names = [f"c{number}" for number in range(1, 8)]
    batch: list[Record] = [accepted(seq, name, "ann" if seq % 2 else "bob") for seq, name in enumerate(names, start=1)]
    batch.append(ConstellationEnded(8, 8.0, ConstellationId("c7"), ConstellationState.FAILED, "why"))
    await store.append(batch, epoch)

    first = await store.list_constellations(owner=None, states=(), before=None, limit=3)
    assert [summary.id for summary in first] == ["c7", "c6", "c5"]
    rest = await store.list_constellations(owner=None, states=(), before=first[-1].id, limit=9)
    assert [summary.id for summary in rest] == ["c4", "c3", "c2", "c1"]
    of_ann = await store.list_constellations(owner="ann", states=(), before=ConstellationId("c7"), limit=9)
    assert [summary.id for summary in of_ann] == ["c5", "c3", "c1"]
    failed = await store.list_constellations(owner=None, states={ConstellationState.FAILED}, before=None, limit=9)
    assert [(summary.id, summary.state, summary.reason, summary.ended_at) for summary in failed] == [
        ("c7", ConstellationState.FAILED, "why", 8.0)
    ]
    both = await store.list_constellations(
        owner="ann", states={ConstellationState.FAILED, ConstellationState.RUNNING}, before=None, limit=2
    )
    assert [summary.id for summary in both] == ["c7", "c5"]


async def test_summary_counts_stars(store: AnyStore) -> None:
    state = folded(await fill(store, seeded_history(2, 150)))
    summaries = await store.list_constellations(owner=None, states=(), before=None, limit=1000)
    assert {summary.id for summary in summaries} == set(state.constellations)
    for summary in summaries:
        known = state.constellations[summary.id]
        assert summary.stars == len(known.stars)
        assert summary.stars_terminal == len(known.stars) - known.unfinished
        assert (summary.name, summary.form, summary.owner) == (known.request.name, known.request.form, known.owner)
        assert (summary.revision, summary.request_id) == (known.revision, known.request_id)


async def test_journal_resumes_without_a_gap_or_a_repeat(store: AnyStore) -> None:
    records = await fill(store, seeded_history(4, 150))
    constellation = next(record.constellation for record in records if isinstance(record, RequestAccepted))
    expected = [record for record in records if getattr(record, "constellation", None) == constellation]
    read: list[Record] = []
    while page := await store.read_journal(constellation, after_seq=read[-1].seq if read else 0, limit=3):
        read += page
    assert read == expected


async def test_whole_journal_resumes_too(store: AnyStore) -> None:
    records = await fill(store, seeded_history(4, 400))
    read: list[Record] = []
    while page := await store.read_whole_journal(after_seq=read[-1].seq if read else 0, limit=7):
        read += page
    assert read == records


async def test_worker_keeps_its_labels_when_it_joins_again(store: AnyStore) -> None:
    epoch = await store.acquire_epoch()
    records = [record for batch in seeded_history(1, 200).batches for record in batch]
    joined = WorkerJoined(records[-1].seq + 1, 1.0, WorkerId("w1"), "i9", WorkerProfile(7))
    await store.append([*records, joined], epoch)
    await assert_holds(store, [*records, joined])


async def test_credential_is_found_by_its_secret_until_it_is_revoked(store: AnyStore) -> None:
    kept = credential("laptop", b"1" * 32)
    await store.add_credential(kept)
    assert await store.find_credential(b"1" * 32) == kept
    assert await store.find_credential(b"2" * 32) is None
    await store.revoke_credential("laptop", 5.0)
    found = await store.find_credential(b"1" * 32)
    assert found == replace(kept, revoked_at=5.0)
    assert not replace(kept, revoked_at=5.0).is_valid(6.0)


async def test_live_name_is_taken_and_a_revoked_or_ended_one_is_free(store: AnyStore) -> None:
    await store.add_credential(credential("a", b"1" * 32))
    with pytest.raises(AlreadyExists):
        await store.add_credential(credential("a", b"2" * 32, created_at=2.0))
    with pytest.raises(AlreadyExists):
        await store.add_credential(credential("b", b"1" * 32))
    await store.add_credential(credential("a", b"3" * 32, created_at=9.0, expires_at=20.0))
    await store.revoke_credential("a", 10.0)
    await store.add_credential(credential("a", b"4" * 32, created_at=11.0, expires_at=20.0))
    assert [known.secret_sha256[:1] for known in await store.list_credentials()] == [b"1", b"3", b"4"]


async def test_revoking_an_unknown_name_is_an_error(store: AnyStore) -> None:
    with pytest.raises(NotFound):
        await store.revoke_credential("nobody", 1.0)


async def test_lease_and_finish_of_one_append_are_both_kept(store: AnyStore) -> None:
    epoch = await store.acquire_epoch()
    records = [record for batch in seeded_history(6, 100).batches for record in batch]
    ends = [record for record in records if isinstance(record, StarFinished) and record.attempt is not None]
    assert any(record.outcome is AttemptOutcome.SUCCEEDED for record in ends)
    await store.append(records, epoch)
    await assert_holds(store, records)
