"""A worker's one stream: frames in become events, effects become frames out."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any, Final, assert_never

import grpc
import grpc.aio
import structlog

from asterism.orchestrator.clock import Clock
from asterism.orchestrator.core.effects import Acknowledge, AnswerEdits, Assign, InputText, InputValue, Stop
from asterism.orchestrator.core.errors import InvalidField, Overloaded, WrongState
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptSucceeded,
    EditsProposed,
    WorkerDetached,
    WorkerEvent,
    WorkerLeaving,
    WorkerRenewed,
    WorkerSaid,
)
from asterism.orchestrator.core.ids import FencingToken, WorkerId
from asterism.orchestrator.core.star import StarError
from asterism.orchestrator.core.values import MAX_ARTIFACT_BYTES, Artifact
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.outbox import ForWorker, WorkerOutbox, first_error
from asterism.orchestrator.services.auth import CALLER, Gate, Identity
from asterism.orchestrator.services.rates import Places
from asterism.protocol.convert import (
    answer_edits_to_proto,
    artifact_from_proto,
    checks,
    edits_proposed_from_proto,
    finished_from_proto,
    hello_from_proto,
    input_part_to_proto,
    progress_from_proto,
    stop_to_proto,
    write_assign,
)
from asterism.protocol.limits import MAX_MESSAGE_BYTES
from asterism.protocol.v1 import worker_pb2, worker_pb2_grpc

log = structlog.get_logger(__name__)

EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it

HELLO_S: Final = 10.0
"""Longest wait for a stream's first frame."""
MAX_STREAMS: Final = 8
"""Of one identity at one time: the live one, and those that it has left behind and that have not been noticed yet."""
MAX_FRAME_ITEMS: Final = 4096
"""Messages in one frame from a worker: as many as it can have slots."""
MAX_PART: Final = 128
"""Messages of one frame that are converted without a pause: about 2 ms, unless they carry large edits."""
MAX_TAKE: Final = 512
"""Effects turned into frames without a pause: some milliseconds of work."""
MAX_FRAME_BYTES: Final = MAX_MESSAGE_BYTES - 1024
"""Of one frame to a worker; the rest is for what surrounds it."""


async def _is_never_kept(_: Artifact) -> bool:
    return False


class WorkerService(worker_pb2_grpc.WorkerServiceServicer):
    """Translates; the machine decides."""

    def __init__(
        self,
        loop: Loop,
        clock: Clock,
        gate: Gate,
        *,
        lease_s: float,
        max_workers: int,
        max_artifact_bytes: int = MAX_ARTIFACT_BYTES,
        is_kept: Callable[[Artifact], Awaitable[bool]] = _is_never_kept,
    ) -> None:
        """`is_kept` says whether an artifact has been put; without a place for them none has."""
        self._loop = loop
        self._clock = clock
        self._gate = gate
        self._lease_s = lease_s
        self._max_artifact_bytes = max_artifact_bytes
        self._is_kept = is_kept
        self._places = Places("attached workers", max_workers)
        self._streams = Places("streams", MAX_STREAMS)

    async def Attach(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # writes by context
        """Hold the stream until the worker leaves, or is cut."""
        identity = CALLER.get()
        # Without credentials all have one name; then whoever reaches the loopback address may do all anyway.
        own = nullcontext() if identity.is_local else self._streams.hold(identity.name)
        with own, self._places.hold("the fleet"):
            hello = await self._hello(context)
            name = None if identity.is_local else WorkerId(identity.name)
            attached = hello_from_proto(hello, self._clock.now(), name)
            outbox = WorkerOutbox(attached.worker, attached.instance)
            has_said_goodbye = False
            try:
                await self._loop.attach(attached, outbox)
                log.info("worker attached", worker=attached.worker, slots=attached.profile.slots)
                welcome = worker_pb2.Welcome(
                    worker=attached.worker,
                    lease_s=self._lease_s,
                    max_frame_bytes=MAX_MESSAGE_BYTES,
                    max_artifact_bytes=self._max_artifact_bytes,
                )
                await context.write(worker_pb2.OrchestratorFrame(welcome=welcome))
                has_said_goodbye = await self._converse(context, outbox, identity)
            finally:
                # Also when the peer has gone before it was let in; for one that was refused it means nothing.
                self._detach(outbox, is_goodbye=has_said_goodbye)

    async def _hello(self, context: Any) -> worker_pb2.Hello:
        try:
            async with asyncio.timeout(HELLO_S):
                frame = await context.read()
        except TimeoutError:
            raise WrongState("stream", "attach", "silent", f"no Hello came within {HELLO_S:g} s") from None
        if frame is EOF or not frame.HasField("hello"):
            raise InvalidField("hello", "the first frame of a stream must have one")
        hello: worker_pb2.Hello = frame.hello
        return hello

    async def _converse(self, context: Any, outbox: WorkerOutbox, identity: Identity) -> bool:
        """Read and write until either ends; gives whether the worker said goodbye."""
        said_goodbye = False

        async def both() -> None:
            nonlocal said_goodbye
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write(context, outbox))
                said_goodbye = await self._read(context, outbox, identity)
                writing.cancel()

        try:
            await outbox.serve(both())
        except ExceptionGroup as errors:
            raise first_error(errors) from None
        return said_goodbye

    async def _read(self, context: Any, outbox: WorkerOutbox, identity: Identity) -> bool:
        renewal = self._gate.renewal(identity)
        while True:
            frame = await context.read()
            if frame is EOF:
                return False
            self._loop.counts.frames_received += 1
            await renewal.check()
            _check_frame(frame)
            await self._tell(frame, outbox)
            if frame.goodbye:
                return True

    async def _tell(self, frame: worker_pb2.WorkerFrame, outbox: WorkerOutbox) -> None:
        """Hand in what a frame says, in parts that are each converted at once and have one time."""
        reports, at = frame.finished[:], 0.0
        events = self._events(frame, reports, outbox, await self._missing(reports), lambda: at)
        while True:
            # Before it is converted: a full mailbox holds the worker back, by HTTP/2's own flow control.
            await self._loop.room()
            at = self._clock.now()
            part = tuple(islice(events, MAX_PART))
            if part:
                self._loop.tell(WorkerSaid(at, outbox.worker, part), outbox)
            if len(part) < MAX_PART:
                return
            await asyncio.sleep(0)  # A frame of thousands of messages must not hold up everybody else.

    async def _missing(self, reports: Sequence[worker_pb2.Finished]) -> Collection[int]:
        """Which of them name artifacts that nobody has put; those that cannot be read are not among them."""
        missing: set[int] = set()
        for index, finished in enumerate(reports):
            artifact = finished.artifact if finished.HasField("artifact") else None
            is_named = artifact is not None and len(artifact.sha256) == 32 and artifact.size <= checks.MAX_COUNT
            if is_named and not await self._is_kept(artifact_from_proto(finished.artifact)):
                missing.add(index)
        return missing

    def _events(
        self,
        frame: worker_pb2.WorkerFrame,
        reports: Sequence[worker_pb2.Finished],
        outbox: WorkerOutbox,
        missing: Collection[int],
        now: Callable[[], float],
    ) -> Iterator[WorkerEvent]:
        """What the frame says, each stamped when it is asked for."""
        worker = outbox.worker
        for index, progress in enumerate(frame.progress):
            yield progress_from_proto(progress, now(), worker, f"progress[{index}]")
        for index, proposed in enumerate(frame.proposed):
            proposal = self._proposal(proposed, now(), outbox, f"proposed[{index}]")
            if proposal is not None:
                yield proposal
        for index, finished in enumerate(reports):
            if index in missing:
                error = StarError("artifact_missing", "its result was not put before it was reported", retryable=True)
                token = FencingToken(finished.fencing_token)
                yield AttemptFailed(now(), worker, token, error, chance=self._clock.chance())
            else:
                yield self._end(finished, now(), worker, index)
        if frame.draining:
            yield WorkerLeaving(now(), worker)
        if not (frame.progress or reports or frame.draining):
            yield WorkerRenewed(now(), worker)

    def _proposal(
        self, proposed: worker_pb2.ProposedEdits, at: float, outbox: WorkerOutbox, field: str
    ) -> EditsProposed | None:
        """The proposal, or None after answering one that cannot be read: its star shall not wait for ever."""
        try:
            return edits_proposed_from_proto(proposed, at, outbox.worker, field)
        except InvalidField as error:
            token = FencingToken(proposed.fencing_token)
            outbox.put(AnswerEdits(outbox.worker, token, proposed.proposal, False, (error.message,), 0))
            return None

    def _end(
        self, finished: worker_pb2.Finished, at: float, worker: WorkerId, index: int
    ) -> AttemptSucceeded | AttemptFailed:
        """The report, or a failure in its place where it cannot be read: it would come again at every reconnect."""
        # For the backoff after a failure; of the system's chance, at 2 us a piece.
        chance = self._clock.chance() if finished.HasField("error") else 0.0
        try:
            return finished_from_proto(finished, at, worker, chance, "")
        except InvalidField as error:
            token = FencingToken(finished.fencing_token)
            failure = StarError("invalid_result", InvalidField(f"finished[{index}]{error.field}", error.reason).message)
            return AttemptFailed(at, worker, token, failure, chance=self._clock.chance())

    async def _write(self, context: Any, outbox: WorkerOutbox) -> None:
        while effects := await outbox.take(MAX_TAKE):
            frame, size = worker_pb2.OrchestratorFrame(), 0
            for effect in effects:
                try:
                    part_size = _write_effect(effect, frame)
                except InvalidField as fault:
                    # One star's fault must not end the stream that all others of this worker are on.
                    if not isinstance(effect, Assign | InputValue):
                        raise
                    await self._fail(effect, StarError("inputs_unwritable", fault.message), outbox)
                    continue
                if size + part_size > MAX_FRAME_BYTES:
                    whole, frame = frame, worker_pb2.OrchestratorFrame()
                    _move_last(effect, whole, frame)
                    if isinstance(effect, Assign) and part_size > MAX_FRAME_BYTES:
                        reason = f"its inputs are {part_size} bytes; a frame carries {MAX_FRAME_BYTES}"
                        await self._fail(effect, StarError("inputs_too_large", reason), outbox)
                        frame = whole
                        continue
                    self._loop.check_lead()
                    await self._send(context, whole)
                    size = 0
                size += part_size
            if size:
                # What waited while this process was stopped is another leader's business by now.
                self._loop.check_lead()
                await self._send(context, frame)
        await self._send(context, worker_pb2.OrchestratorFrame(going_away=True))

    async def _send(self, context: Any, frame: worker_pb2.OrchestratorFrame) -> None:
        self._loop.counts.frames_sent += 1
        await context.write(frame)

    async def _fail(self, given: Assign | InputValue, error: StarError, outbox: WorkerOutbox) -> None:
        """A star whose inputs cannot be sent fails, and says so."""
        await self._loop.room()
        at, chance = self._clock.now(), self._clock.chance()
        self._loop.tell(AttemptFailed(at, given.worker, given.fencing_token, error, chance=chance), outbox)

    def _detach(self, outbox: WorkerOutbox, *, is_goodbye: bool) -> None:
        log.info("worker detached", worker=outbox.worker, goodbye=is_goodbye)
        at, chance = self._clock.now(), self._clock.chance()
        try:
            self._loop.tell(WorkerDetached(at, outbox.worker, outbox.instance, is_goodbye, chance), outbox)
        except Overloaded:
            log.debug("the loop has stopped; after the next start the lease runs on", worker=outbox.worker)


def _check_frame(frame: worker_pb2.WorkerFrame) -> None:
    if frame.HasField("hello"):
        raise InvalidField("hello", "only the first frame of a stream may have one")
    items = len(frame.progress) + len(frame.proposed) + len(frame.finished)
    if items > MAX_FRAME_ITEMS:
        raise InvalidField("frame", f"{items} messages in one frame; at most {MAX_FRAME_ITEMS}")


ENTRY_BYTES: Final = 16
"""At most, of a frame for what surrounds a part, and for a fencing token."""


def _write_effect(effect: ForWorker, frame: worker_pb2.OrchestratorFrame) -> int:
    """Add it to the frame, where it is not copied again; gives at most how many bytes of the frame it takes.

    Raises InvalidField for a value that has no form on the wire; then the frame is as it was.
    """
    match effect:
        case Acknowledge():
            frame.acknowledged.extend(effect.fencing_tokens)
            return len(effect.fencing_tokens) * ENTRY_BYTES
        case Assign():
            assignment = frame.assignments.add()
            try:
                write_assign(effect, assignment)
            except InvalidField:
                del frame.assignments[-1]
                raise
            return assignment.ByteSize() + ENTRY_BYTES
        case InputText() | InputValue():
            part = input_part_to_proto(effect)
            frame.inputs.append(part)
            return part.ByteSize() + ENTRY_BYTES
        case Stop():
            stop = stop_to_proto(effect)
            frame.stops.append(stop)
            return stop.ByteSize() + ENTRY_BYTES
        case AnswerEdits():
            answer = answer_edits_to_proto(effect)
            frame.edits_answers.append(answer)
            return answer.ByteSize() + ENTRY_BYTES
        case _:
            assert_never(effect)


def _move_last(effect: ForWorker, full: worker_pb2.OrchestratorFrame, empty: worker_pb2.OrchestratorFrame) -> None:
    """Take the effect that was written last out of a frame that it made too large, into the next one."""
    match effect:
        case Acknowledge():
            count = len(effect.fencing_tokens)
            empty.acknowledged.extend(full.acknowledged[-count:])
            del full.acknowledged[-count:]
        case Assign():
            empty.assignments.append(full.assignments.pop())
        case InputText() | InputValue():
            empty.inputs.append(full.inputs.pop())
        case Stop():
            empty.stops.append(full.stops.pop())
        case AnswerEdits():
            empty.edits_answers.append(full.edits_answers.pop())
        case _:
            assert_never(effect)
