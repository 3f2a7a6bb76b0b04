"""The link against a scripted orchestrator on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio
import pytest

from asterism.agents.asks import EditReply
from asterism.orchestrator.core.edits import CancelStar, EditBatch
from asterism.orchestrator.core.effects import Assign, InputText, InputValue
from asterism.orchestrator.core.errors import AlreadyExists, AsterismError, Forbidden, InvalidField, Unauthenticated
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import FencingToken, StarId, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.protocol.convert import assign_to_proto, input_part_to_proto
from asterism.protocol.routes import Routes
from asterism.protocol.v1 import worker_pb2
from asterism.workers.link import Link
from asterism.workers.reports import AttemptFailed, Stopped, Succeeded
from asterism.workers.session import MAX_WAITING_BYTES, Backoff
from tests.workers.making import an_assignment
from tests.workers.peer import Peer, Stream, serving

ONE, TWO, THREE = FencingToken(1), FencingToken(2), FencingToken(3)
BATCH = EditBatch((CancelStar(StarId("s")),))


@dataclass(slots=True)
class ByHand:
    """A `Work` that does only what the test makes it do."""

    started: list[Assign] = field(default_factory=list)
    heard: list[InputText | InputValue] = field(default_factory=list)
    stopped: list[FencingToken] = field(default_factory=list)
    stopped_all: asyncio.Event = field(default_factory=asyncio.Event)
    on_start: Callable[[Assign], None] = lambda _: None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, assignment: Assign) -> None:
        self.started.append(assignment)
        self.on_start(assignment)
        self.changed.set()

    def hear(self, part: InputText | InputValue) -> None:
        self.heard.append(part)
        self.changed.set()

    def stop(self, fencing_token: FencingToken) -> None:
        self.stopped.append(fencing_token)
        self.changed.set()

    def stop_all(self) -> None:
        self.stopped_all.set()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    async with serving(peer):
        yield peer


def a_link(peer: Peer, work: ByHand, slots: int = 4) -> Link:
    async def dial(address: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])

    link = Link(
        dial=dial,
        routes=Routes(peer.address),
        worker=WorkerId("w1"),
        instance="i1",
        profile=WorkerProfile(slots, models=("m",), labels={"zone": "lab"}),
        chance=lambda: 0.0,
        backoff=Backoff(first_s=0.01, max_s=0.05),
    )
    link.serve(work)
    return link


@asynccontextmanager
async def running(link: Link) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(link.run())
        yield
        task.cancel()


async def until(work: ByHand, happened: Callable[[], bool]) -> None:
    while not happened():
        work.changed.clear()
        await work.changed.wait()


async def test_hello_names_worker_instance_and_profile(peer: Peer) -> None:
    async with running(a_link(peer, ByHand())):
        hello = await (await peer.next_stream()).welcome()
        assert (hello.worker, hello.instance, list(hello.held)) == ("w1", "i1", [])
        assert (hello.profile.slots, list(hello.profile.models)) == (4, ["m"])


async def test_reports_that_wait_together_travel_in_one_frame(peer: Peer) -> None:
    work = ByHand()
    link = a_link(peer, work, slots=100)
    work.on_start = lambda assignment: link.finish(Succeeded(assignment.fencing_token, "1"))
    async with running(link):
        stream = await peer.next_stream()
        await stream.welcome()
        await stream.assign(*(an_assignment(fencing_token=FencingToken(number)) for number in range(1, 101)))
        finished = await stream.hear_finished(100)
        assert [report.fencing_token for report in finished] == list(range(1, 101))
        assert len(stream.frames) == 2  # the Hello, and this one


async def test_unacknowledged_reports_go_out_again_after_a_broken_stream(peer: Peer) -> None:
    work = ByHand()
    link = a_link(peer, work)
    async with running(link):
        stream = await peer.next_stream()
        await stream.welcome()
        await stream.assign(*(an_assignment(fencing_token=token) for token in (ONE, TWO, THREE)))
        await until(work, lambda: len(work.started) == 3)
        link.finish(Succeeded(ONE, "1"))
        link.finish(Succeeded(TWO, "2"))
        await stream.hear_finished(2)
        await stream.say(acknowledged=[ONE], stops=[worker_pb2.StopAttempt(fencing_token=THREE)])
        await until(work, lambda: work.stopped == [THREE])
        stream.close()
        again = await peer.next_stream()
        hello = await again.welcome()
        assert set(hello.held) == {TWO, THREE}
        (finished,) = await again.hear_finished(1)
        assert (finished.fencing_token, finished.result_json) == (TWO, "2")
        link.finish(Stopped(THREE))
        (finished,) = await again.hear_finished(1)
        assert (finished.fencing_token, finished.is_stopped) == (THREE, True)


async def test_report_made_while_the_orchestrator_is_away_reaches_the_next_one() -> None:
    peer, work = Peer(), ByHand()
    async with serving(peer) as port:
        link = a_link(peer, work)
        task = asyncio.ensure_future(link.run())
        stream = await peer.next_stream()
        await stream.welcome()
        await stream.assign(an_assignment(fencing_token=ONE))
        await until(work, lambda: bool(work.started))
    link.finish(Succeeded(ONE, "1"))
    async with serving(peer, port):
        again = await peer.next_stream()
        assert list((await again.welcome()).held) == [ONE]
        assert (await again.hear_finished(1))[0].result_json == "1"
        task.cancel()
        await asyncio.wait([task])


async def test_stop_of_an_unknown_attempt_is_answered(peer: Peer) -> None:
    async with running(a_link(peer, ByHand())):
        stream = await peer.next_stream()
        await stream.welcome()
        await stream.say(stops=[worker_pb2.StopAttempt(fencing_token=9)])
        (finished,) = await stream.hear_finished(1)
        assert (finished.fencing_token, finished.is_stopped) == (9, True)


async def test_silent_worker_renews_within_its_lease(peer: Peer) -> None:
    async with running(a_link(peer, ByHand())):
        stream = await peer.next_stream()
        await stream.welcome(lease_s=0.3)
        async with asyncio.timeout(10):
            assert await stream.hear() == worker_pb2.WorkerFrame()
            assert await stream.hear() == worker_pb2.WorkerFrame()


async def test_leases_are_lost_when_the_stream_is_away_for_longer(peer: Peer) -> None:
    work = ByHand()
    async with running(a_link(peer, work)):
        stream = await peer.next_stream()
        await stream.welcome(lease_s=0.05)
        stream.close()
        await peer.next_stream()  # and never a welcome
        await work.stopped_all.wait()


async def test_proposal_is_answered(peer: Peer) -> None:
    work = ByHand()
    link = a_link(peer, work)
    async with running(link), asyncio.TaskGroup() as group:
        stream = await peer.next_stream()
        await stream.welcome()
        reply = group.create_task(link.propose(ONE, BATCH, 10))
        frame = await stream.hear()
        assert frame is not None
        (proposed,) = frame.proposed
        assert proposed.batch.edits[0].cancel_star.star == "s"
        answer = worker_pb2.EditsAnswer(
            fencing_token=ONE, proposal=proposed.proposal, is_accepted=False, reasons=["no"], revision=5
        )
        await stream.say(edits_answers=[answer, answer])
        assert await reply == EditReply(False, ("no",), 5)


async def test_proposal_goes_out_again_on_a_new_stream(peer: Peer) -> None:
    link = a_link(peer, ByHand())
    async with running(link), asyncio.TaskGroup() as group:
        stream = await peer.next_stream()
        await stream.welcome()
        reply = group.create_task(link.propose(ONE, BATCH, 10))
        first = await stream.hear()
        stream.close()
        stream = await peer.next_stream()
        await stream.welcome()
        second = await stream.hear()
        assert first is not None
        assert second is not None
        assert list(second.proposed) == list(first.proposed)
        (proposed,) = second.proposed
        answer = worker_pb2.EditsAnswer(fencing_token=ONE, proposal=proposed.proposal, is_accepted=True, revision=5)
        await stream.say(edits_answers=[answer])
        assert await reply == EditReply(True, (), 5)


async def test_proposal_that_cannot_be_read_fails_its_attempt_as_retryable(peer: Peer) -> None:
    link = a_link(peer, ByHand())
    async with running(link):
        stream = await peer.next_stream()
        await stream.welcome()
        reply = asyncio.ensure_future(link.propose(ONE, BATCH, 10))
        await stream.hear()
        stream.close(InvalidField("proposed[0]", "is no batch"))
        with pytest.raises(AttemptFailed) as failed:
            await reply
        assert (failed.value.error.code, failed.value.error.retryable) == ("edits_unanswered", True)


async def test_streamed_text_is_merged_while_it_waits(peer: Peer) -> None:
    link = a_link(peer, ByHand())
    async with running(link):
        stream = await peer.next_stream()
        await stream.welcome()
        await link.wait_attached()
        for word in ("a", "b", "c"):
            await link.stream(ONE, Chunk("t", word, 1))
        frame = await stream.hear()
        assert frame is not None
        assert [(chunk.text, chunk.tokens) for chunk in frame.progress[0].chunks] == [("abc", 3)]


async def test_streaming_waits_until_the_writer_has_made_room(peer: Peer) -> None:
    link = a_link(peer, ByHand())
    async with running(link):
        stream = await peer.next_stream()
        await stream.welcome()
        await link.wait_attached()
        # The first fills what may wait; the writer has had no turn, so it waits until that has.
        await link.stream(ONE, Chunk("t", "x" * MAX_WAITING_BYTES, 1))
        frame = await stream.hear()
        assert frame is not None
        assert len(frame.progress[0].chunks[0].text) == MAX_WAITING_BYTES


@pytest.mark.parametrize("refusal", [Unauthenticated("who?"), Forbidden("client", "attach")])
async def test_refused_identity_ends_the_link(peer: Peer, refusal: AsterismError) -> None:
    task = asyncio.ensure_future(a_link(peer, ByHand()).run())
    (await peer.next_stream()).close(refusal)
    with pytest.raises(type(refusal)):
        await task


async def test_taken_identity_is_tried_again_for_as_long_as_a_dead_one_may_last(peer: Peer) -> None:
    work = ByHand()
    task = asyncio.ensure_future(a_link(peer, work).run())
    first = await peer.next_stream()
    await first.welcome(lease_s=0.1)
    first.close()

    async def refuse() -> None:
        while True:
            (await peer.next_stream()).close(AlreadyExists("worker", "w1"))

    refusing = asyncio.ensure_future(refuse())
    with pytest.raises(AlreadyExists):
        await task
    refusing.cancel()
    assert work.stopped_all.is_set()


async def test_result_that_cannot_be_read_is_not_sent_for_ever(peer: Peer) -> None:
    work = ByHand()
    link = a_link(peer, work)
    async with running(link):
        stream = await peer.next_stream()
        await stream.welcome()
        await stream.assign(an_assignment(fencing_token=ONE))
        await until(work, lambda: bool(work.started))
        link.finish(Succeeded(ONE, "{"))
        await stream.hear_finished(1)
        stream.close(InvalidField("finished[0].result_json", "is no JSON"))
        again = await peer.next_stream()
        await again.welcome()
        (finished,) = await again.hear_finished(1)
        assert finished.error.code == "report_refused"


async def test_orchestrator_that_goes_away_is_dialled_again(peer: Peer) -> None:
    async with running(a_link(peer, ByHand())):
        stream = await peer.next_stream()
        await stream.welcome()
        await stream.say(going_away=True)
        await (await peer.next_stream()).welcome()


async def test_drain_waits_for_the_last_acknowledgement_and_says_goodbye(peer: Peer) -> None:
    work = ByHand()
    link = a_link(peer, work)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(link.run())
        stream = await peer.next_stream()
        await stream.welcome()
        await stream.assign(an_assignment(fencing_token=ONE))
        await until(work, lambda: bool(work.started))
        link.drain()
        frame = await stream.hear()
        assert frame is not None
        assert frame.draining
        idle = group.create_task(link.wait_idle())
        link.finish(Succeeded(ONE, "1"))
        await stream.hear_finished(1)
        assert not idle.done()
        await stream.say(acknowledged=[ONE])
        await idle
        link.leave()
        assert await _hear_goodbye(stream)
        stream.close()
        await task


async def _hear_goodbye(stream: Stream) -> bool:
    while (frame := await stream.hear()) is not None:
        if frame.goodbye:
            return True
    return False


async def test_leaving_without_a_connection_ends_at_once() -> None:
    peer = Peer()
    async with serving(peer):
        pass
    link = a_link(peer, ByHand())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(link.run())
        link.leave()
        await task


async def test_unreadable_assignment_is_answered_with_a_failure(peer: Peer) -> None:
    work = ByHand()
    async with running(a_link(peer, work)):
        stream = await peer.next_stream()
        await stream.welcome()
        await stream.say(assignments=[worker_pb2.Assignment(fencing_token=5, constellation="c", star="a/b")])
        (finished,) = await stream.hear_finished(1)
        assert (finished.fencing_token, finished.error.code) == (5, "invalid_assignment")
        assert work.started == []


async def test_parts_of_inputs_come_after_the_assignment_that_awaits_them(peer: Peer) -> None:
    work = ByHand()
    text, whole = InputText(WorkerId("w1"), ONE, "data", 0, "a"), InputValue(WorkerId("w1"), ONE, "data", {"b": 1})
    async with running(a_link(peer, work)):
        stream = await peer.next_stream()
        await stream.welcome()
        assigned = assign_to_proto(an_assignment(fencing_token=ONE, inputs={}, streams=("data",)))
        await stream.say(assignments=[assigned], inputs=[input_part_to_proto(part) for part in (text, whole)])
        await until(work, lambda: len(work.heard) == 2)
        assert (work.started[0].streams, work.heard) == (("data",), [text, whole])
