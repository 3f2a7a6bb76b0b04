"""The worker's one stream to the orchestrator: kept open, coalesced, and opened again when it breaks."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import grpc
import grpc.aio
import structlog

from asterism.agents.asks import EditReply
from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.effects import AnswerEdits, Assign, InputText, InputValue
from asterism.orchestrator.core.errors import (
    AlreadyExists,
    AsterismError,
    Forbidden,
    InvalidField,
    Misconfigured,
    NotLeading,
    Overloaded,
    Unauthenticated,
    Unreachable,
)
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import FencingToken, WorkerId
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.values import Artifact
from asterism.protocol.routes import Routes
from asterism.protocol.status import from_rpc_error
from asterism.protocol.v1 import worker_pb2, worker_pb2_grpc
from asterism.workers.reports import AttemptFailed, Failed, Proposal, Report
from asterism.workers.session import Backoff, Session
from asterism.workers.transfers import Transfers
from asterism.workers.wire import Incoming, Welcome, frame_from_proto, frame_to_proto, hello_frame

STANDBY_DELAY_S: Final = 0.5
"""Until the next try after an orchestrator that stands by."""
DEFAULT_LEASE_S: Final = 10.0
"""Until the orchestrator has said its own."""
WELCOME_TIMEOUT_S: Final = 10.0
"""From dialling to the Welcome: an orchestrator that takes longer is tried again."""
GOODBYE_TIMEOUT_S: Final = 2.0
"""From our goodbye to the end of the stream."""

Dial: TypeAlias = Callable[[str], Awaitable[grpc.aio.Channel]]
"""A channel to an address."""
AttachCall: TypeAlias = "grpc.aio.StreamStreamCall[worker_pb2.WorkerFrame, worker_pb2.OrchestratorFrame]"

_log = structlog.get_logger(__name__)


class Work(Protocol):
    """What runs assignments."""

    def start(self, assignment: Assign) -> None:
        """Run it; its report comes to the link's `finish`."""
        ...

    def hear(self, part: InputText | InputValue) -> None:
        """More of an input of an attempt that is being written."""
        ...

    def stop(self, fencing_token: FencingToken) -> None:
        """Make it end; its report comes all the same."""
        ...

    def stop_all(self) -> None:
        """Make everything end: the leases are lost."""
        ...


class Link:
    """Everything between the attempts that run here and the orchestrator.

    It implements what the runner calls a `Port`. Work goes on while the stream is broken, until the lease is over.
    """

    def __init__(
        self,
        *,
        dial: Dial,
        routes: Routes,
        worker: WorkerId,
        instance: str,
        profile: WorkerProfile,
        chance: Callable[[], float],
        backoff: Backoff | None = None,
    ) -> None:
        self._dial = dial
        self._routes = routes
        self._worker = worker
        self._instance = instance
        self._profile = profile
        self._chance = chance
        self._backoff = backoff or Backoff()
        self._session = Session(profile.slots)
        self._transfers = Transfers(self._backoff, chance)
        self._work: Work | None = None
        self._lease_s = DEFAULT_LEASE_S
        self._failures = 0
        self._rival_since: float | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._settled = asyncio.Event()
        self._attached = asyncio.Event()
        self._leaving = asyncio.Event()
        self._is_streaming = False
        self._numbers = itertools.count(1)
        self._answers: dict[tuple[FencingToken, int], asyncio.Future[EditReply]] = {}
        self._lease_end: asyncio.TimerHandle | None = None

    def serve(self, work: Work) -> None:
        """Who runs the assignments; to be said before `run`."""
        self._work = work

    @property
    def _address(self) -> str:
        return self._routes.current

    async def run(self) -> None:
        """Keep a stream open until `leave`. Raises what makes every further try useless, such as a refused identity."""
        try:
            while not self._leaving.is_set():
                error = await self._attend()
                if self._leaving.is_set():
                    return
                self._detached(error)
                await self._wait(self._delay_s(error))
        finally:
            if self._lease_end is not None:
                self._lease_end.cancel()

    async def stream(self, fencing_token: FencingToken, chunk: Chunk) -> None:
        """Send text with the next frame; waits while too much waits already."""
        self._session.stream(fencing_token, chunk)
        self._wake.set()
        while not self._session.has_room:
            self._room.clear()
            await self._room.wait()

    async def propose(self, fencing_token: FencingToken, batch: EditBatch, size_bytes: int) -> EditReply:
        """Propose edits and wait for the answer. Raises `AttemptFailed` for what ended the stream by being invalid."""
        number = next(self._numbers)
        answer: asyncio.Future[EditReply] = asyncio.get_running_loop().create_future()
        self._answers[fencing_token, number] = answer
        self._session.propose(Proposal(fencing_token, number, batch, size_bytes))
        self._wake.set()
        try:
            return await answer
        finally:
            del self._answers[fencing_token, number]

    @property
    def max_artifact_bytes(self) -> int:
        """Of one result."""
        return self._transfers.max_artifact_bytes

    async def put_artifact(self, fencing_token: FencingToken, artifact: Artifact, data: bytes) -> None:
        """Have the result of a running attempt kept; waits while the stream is broken."""
        await self._transfers.put(fencing_token, artifact, data)

    async def get_artifact(self, fencing_token: FencingToken, artifact: Artifact) -> bytes:
        """What a running attempt is given; waits while the stream is broken."""
        return await self._transfers.get(fencing_token, artifact)

    def finish(self, report: Report) -> None:
        """Take the one report of an attempt: it goes out until it is acknowledged."""
        self._session.finish(report)
        self._wake.set()
        self._settled.set()

    def drain(self) -> None:
        """Ask the orchestrator for no more stars."""
        self._session.drain()
        self._wake.set()

    async def wait_attached(self) -> None:
        """Until the orchestrator has welcomed us for the first time."""
        await self._attached.wait()

    async def wait_idle(self) -> None:
        """Until nothing runs and every report has been acknowledged."""
        while not self._session.is_idle:
            self._settled.clear()
            await self._settled.wait()

    def leave(self) -> None:
        """Say goodbye, if anybody listens, and let `run` end."""
        self._leaving.set()
        self._session.leave()
        self._wake.set()

    async def _attend(self) -> AsterismError | None:
        """One stream from dialling to its end, and why it ended; None for no particular reason."""
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                channel = await self._dial(self._address)
        except AsterismError as error:
            return error
        except TimeoutError:
            return Unreachable(self._address, f"no connection within {WELCOME_TIMEOUT_S:g} s")
        try:
            call: AttachCall = worker_pb2_grpc.WorkerServiceStub(channel).Attach()  # type: ignore[call-arg]  # frames are written one by one
            try:
                await self._converse(call, channel)
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error, self._address)
            except InvalidField as error:
                return Unreachable(self._address, f"it sent a frame that cannot be read: {error.message}")
            except TimeoutError:
                return Unreachable(self._address, f"no welcome within {WELCOME_TIMEOUT_S:g} s")
            finally:
                call.cancel()
        finally:
            self._transfers.disconnect()
            await channel.close(None)
        return None

    async def _converse(self, call: AttachCall, channel: grpc.aio.Channel) -> None:
        """Greet, then read and write until the stream ends."""
        async with asyncio.timeout(WELCOME_TIMEOUT_S):
            await _write(call, hello_frame(self._worker, self._instance, self._profile, self._session.held))
            incoming = await self._read(call)
        if incoming is None:
            return
        if incoming.welcome is None:
            raise InvalidField("frame", "the first one has no welcome")
        self._welcomed(incoming.welcome)
        self._transfers.connect(channel, self._worker, incoming.welcome.max_artifact_bytes)
        self._take(incoming)
        failure: Exception | None = None
        self._is_streaming = True
        async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as group:
            writer = group.create_task(self._write_all(call, patience))
            try:
                while (incoming := await self._read(call)) is not None:
                    self._take(incoming)
                    if incoming.is_going_away and not self._leaving.is_set():
                        break
            except (grpc.aio.AioRpcError, InvalidField) as error:
                failure = error
            # The flag too: a cancellation that meets the end of a write is lost in gRPC.
            self._is_streaming = False
            writer.cancel()
        if failure is not None:
            raise failure

    async def _read(self, call: AttachCall) -> Incoming | None:
        """The next frame, or None at the end of the stream. Raises AioRpcError when it broke."""
        proto = await call.read()
        if not isinstance(proto, worker_pb2.OrchestratorFrame):
            return None
        return frame_from_proto(proto, self._worker)

    async def _write_all(self, call: AttachCall, patience: asyncio.Timeout) -> None:
        """Send what waits, all at once; after a third of the lease in silence a sign of life.

        After our goodbye the orchestrator ends the stream; `patience` is bounded then.
        """
        while self._is_streaming:
            try:
                async with asyncio.timeout(self._lease_s / 3):
                    # What was acknowledged wakes it too, and leaves nothing to say.
                    while not self._session.has_something_to_send:
                        self._wake.clear()
                        await self._wake.wait()
            except TimeoutError:
                pass
            outgoing = self._session.take()
            self._room.set()
            if not await _write(call, frame_to_proto(outgoing)):
                return
            if outgoing.is_goodbye:
                patience.reschedule(asyncio.get_running_loop().time() + GOODBYE_TIMEOUT_S)
                return

    def _welcomed(self, welcome: Welcome) -> None:
        if self._lease_end is not None:
            self._lease_end.cancel()
            self._lease_end = None
        self._failures = 0
        self._rival_since = None
        self._lease_s = welcome.lease_s
        if welcome.worker != self._worker:
            _log.warning("the token names this worker otherwise", asked=self._worker, worker=welcome.worker)
        self._worker = welcome.worker
        self._session.max_frame_bytes = welcome.max_frame_bytes
        self._session.attach()
        self._attached.set()
        _log.info("attached", worker=welcome.worker, address=self._address, held=len(self._session.held))

    def _detached(self, error: AsterismError | None) -> None:
        """The stream is over; what was on its way goes out again on the next, unless it cannot be read."""
        self._session.detach()
        if isinstance(error, InvalidField):
            for proposal in self._session.refused(error.message):
                answer = self._answers.get((proposal.fencing_token, proposal.number))
                if answer is not None and not answer.done():
                    answer.set_exception(AttemptFailed("edits_unanswered", error.message, retryable=True))
        self._room.set()
        if self._lease_end is None:
            self._lease_end = asyncio.get_running_loop().call_later(self._lease_s, self._lose_leases)

    def _lose_leases(self) -> None:
        """Nobody will take what runs here: the orchestrator has given it to others."""
        if self._session.running:
            _log.warning("leases lost", address=self._address, attempts=len(self._session.running))
        assert self._work is not None
        self._work.stop_all()

    def _delay_s(self, error: AsterismError | None) -> float:
        """Seconds until the next try. Raises the error when no try will do better."""
        self._failures += 1
        delay_s = self._backoff.delay_s(self._failures, self._chance())
        match error:
            case Unauthenticated() | Forbidden() | Misconfigured():
                raise error
            case AlreadyExists():
                # It may be a dead connection of ours, or of the process before us: those go with their lease.
                now = asyncio.get_running_loop().time()
                self._rival_since = now if self._rival_since is None else self._rival_since
                if now - self._rival_since > self._lease_s * 1.5:
                    raise error
            case Overloaded(retry_after_s=retry_after_s):
                delay_s = max(delay_s, retry_after_s)
            case NotLeading():
                # The others have not been asked yet, or there will be a leader soon.
                delay_s = min(delay_s, STANDBY_DELAY_S)
            case _:
                pass
        reason = "the stream ended" if error is None else error.message
        _log.warning("not attached", address=self._address, reason=reason, again_in_s=round(delay_s, 2))
        self._routes.after(self._address, error)
        return delay_s

    async def _wait(self, delay_s: float) -> None:
        """Until the next try is due, or there is to be none."""
        try:
            async with asyncio.timeout(delay_s):
                while not self._leaving.is_set():
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass

    def _take(self, incoming: Incoming) -> None:
        """Do what a frame says."""
        work = self._work
        assert work is not None
        for assignment in incoming.assignments:
            if not self._session.accept(assignment.fencing_token):
                continue
            if isinstance(assignment, Failed):
                self._session.finish(assignment)
            else:
                work.start(assignment)
        for part in incoming.inputs:
            work.hear(part)
        for fencing_token in incoming.stops:
            if self._session.stop(fencing_token):
                work.stop(fencing_token)
        self._session.acknowledge(incoming.acknowledged)
        for answer in incoming.answers:
            self._answer(answer)
        self._wake.set()
        self._settled.set()

    def _answer(self, answer: AnswerEdits) -> None:
        if not self._session.answered(answer.fencing_token, answer.proposal):
            return
        waiting = self._answers.get((answer.fencing_token, answer.proposal))
        if waiting is not None and not waiting.done():
            waiting.set_result(EditReply(answer.is_accepted, answer.reasons, answer.revision))


async def _write(call: AttachCall, frame: worker_pb2.WorkerFrame) -> bool:
    """Whether the frame went out; if not the stream has ended, and reading it tells why."""
    try:
        await call.write(frame)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return False
    return True
