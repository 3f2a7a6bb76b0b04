"""What workers and the orchestrator tell each other, both ways."""

from collections.abc import Mapping, Sequence
from typing import Final

from asterism.orchestrator.core.effects import AnswerEdits, Assign, InputText, InputValue, Place, Stop
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptProgressed,
    AttemptSucceeded,
    Chunk,
    EditsProposed,
    HeldAttempt,
    WorkerAttached,
)
from asterism.orchestrator.core.ids import FencingToken, WorkerId
from asterism.orchestrator.core.profile import Description, Effect, Gpu, WorkerProfile
from asterism.orchestrator.core.streams import MAX_WRITTEN_CHARS
from asterism.orchestrator.core.values import Artifact, Json, Result
from asterism.protocol.convert import checks, enums
from asterism.protocol.convert.constellation import MAX_TOKENS, constellation_id
from asterism.protocol.convert.edits import edit_batch_from_proto, edit_batch_to_proto
from asterism.protocol.convert.star import (
    artifact_from_proto,
    artifact_to_proto,
    path_from_proto,
    path_to_proto,
    star_error_from_proto,
    star_error_to_proto,
    star_id,
)
from asterism.protocol.limits import MAX_MESSAGE_BYTES
from asterism.protocol.v1 import types_pb2 as pb
from asterism.protocol.v1 import worker_pb2

MAX_SLOTS: Final = 4096
MAX_OFFERS: Final = 256
"""Most models, tools or programs of one worker."""
MAX_DESCRIPTIONS: Final = 3 * MAX_OFFERS
MAX_DESCRIBED: Final = 512 * 1024
"""Characters of all summaries and schemas of one worker."""
MAX_CHUNK: Final = 64 * 1024
"""Longest text of one chunk, in characters."""
MAX_INPUTS: Final = 64
"""Of one star."""
MAX_CHUNKS: Final = 4096
"""Most chunks of one progress message."""


def worker_profile_to_proto(profile: WorkerProfile) -> pb.WorkerProfile:
    """Field by field."""
    return pb.WorkerProfile(
        slots=profile.slots,
        os=profile.os,
        architecture=profile.architecture,
        cores=profile.cores,
        memory_bytes=profile.memory_bytes,
        gpus=[pb.Gpu(name=gpu.name, memory_bytes=gpu.memory_bytes) for gpu in profile.gpus],
        models=profile.models,
        tools=profile.tools,
        programs=profile.programs,
        labels=profile.labels,
        version=profile.version,
        descriptions=[
            pb.Description(
                capability=of.capability,
                effect=enums.EFFECTS[of.effect],
                version=of.version,
                summary=checks.clipped(of.summary),
                schema_json=checks.optional_json_to_text(of.schema, f"descriptions[{index}].schema_json"),
                cache_s=of.cache_s,
            )
            for index, of in enumerate(profile.descriptions)
        ],
    )


def worker_profile_from_proto(proto: pb.WorkerProfile, at: str = "profile") -> WorkerProfile:
    """Bounded in every field: a profile is kept for as long as the worker is known."""
    checks.few(proto.gpus, f"{at}.gpus", 64)
    return WorkerProfile(
        checks.integer(proto.slots, f"{at}.slots", 1, MAX_SLOTS),
        checks.text(proto.os, f"{at}.os", checks.MAX_CAPABILITY),
        checks.text(proto.architecture, f"{at}.architecture", checks.MAX_CAPABILITY),
        proto.cores,
        checks.integer(proto.memory_bytes, f"{at}.memory_bytes"),
        tuple(
            Gpu(
                checks.text(gpu.name, f"{at}.gpus[{index}].name", checks.MAX_CAPABILITY),
                checks.integer(gpu.memory_bytes, f"{at}.gpus[{index}].memory_bytes"),
            )
            for index, gpu in enumerate(proto.gpus)
        ),
        checks.words(proto.models, f"{at}.models", MAX_OFFERS),
        checks.names(proto.tools, f"{at}.tools", MAX_OFFERS),
        checks.names(proto.programs, f"{at}.programs", MAX_OFFERS),
        checks.labels(proto.labels, f"{at}.labels"),
        checks.text(proto.version, f"{at}.version", checks.MAX_CAPABILITY),
        _descriptions_from_proto(proto.descriptions, f"{at}.descriptions"),
    )


def _descriptions_from_proto(protos: Sequence[pb.Description], at: str) -> tuple[Description, ...]:
    """Bounded in all: they are kept, and told to whoever plans."""
    checks.few(protos, at, MAX_DESCRIPTIONS)
    size = sum(len(proto.summary) + len(proto.schema_json) for proto in protos)
    if size > MAX_DESCRIBED:
        raise InvalidField(at, f"{size} characters of summaries and schemas; at most {MAX_DESCRIBED}")
    return tuple(_description_from_proto(proto, f"{at}[{index}]") for index, proto in enumerate(protos))


def _description_from_proto(proto: pb.Description, at: str) -> Description:
    effect = checks.known(enums.EFFECTS_BACK, proto.effect, f"{at}.effect")
    cache_s = checks.positive(proto.cache_s, f"{at}.cache_s") if proto.HasField("cache_s") else None
    if cache_s is not None and effect is not Effect.PURE:
        raise InvalidField(f"{at}.cache_s", f"its effect is {effect}, and only results of what is pure are kept")
    return Description(
        checks.word(proto.capability, f"{at}.capability"),
        effect,
        checks.text(proto.version, f"{at}.version", checks.MAX_CAPABILITY),
        checks.text(proto.summary, f"{at}.summary", checks.MAX_REASON),
        checks.optional_json_from_text(proto.schema_json, f"{at}.schema_json", checks.MAX_GIVEN_DEPTH),
        cache_s,
    )


def chunk_to_proto(chunk: Chunk) -> pb.Chunk:
    """Field by field."""
    return pb.Chunk(thread=chunk.thread, text=chunk.text, tokens=chunk.tokens)


def chunk_from_proto(proto: pb.Chunk, at: str = "chunk") -> Chunk:
    """A piece of at most MAX_CHUNK characters."""
    thread = checks.text(proto.thread, f"{at}.thread", checks.MAX_CAPABILITY)
    return Chunk(thread, checks.text(proto.text, f"{at}.text", MAX_CHUNK), proto.tokens)


def hello_to_proto(
    worker: WorkerId, instance: str, profile: WorkerProfile, held: Sequence[FencingToken]
) -> worker_pb2.Hello:
    """The first words of a worker's stream."""
    return worker_pb2.Hello(worker=worker, instance=instance, profile=worker_profile_to_proto(profile), held=held)


def hello_from_proto(proto: worker_pb2.Hello, at_time: float, worker: WorkerId | None = None) -> WorkerAttached:
    """An attached worker; `worker` is what its credential names, which the message cannot change."""
    checks.few(proto.held, "hello.held", MAX_SLOTS * 2)
    return WorkerAttached(
        at_time,
        WorkerId(checks.name(proto.worker, "hello.worker")) if worker is None else worker,
        checks.word(proto.instance, "hello.instance"),
        worker_profile_from_proto(proto.profile, "hello.profile"),
        tuple(HeldAttempt(_token(token, "hello.held")) for token in proto.held),
    )


def progress_to_proto(fencing_token: FencingToken, chunks: Sequence[Chunk]) -> worker_pb2.Progress:
    """What a running attempt streams."""
    return worker_pb2.Progress(fencing_token=fencing_token, chunks=[chunk_to_proto(chunk) for chunk in chunks])


def progress_from_proto(
    proto: worker_pb2.Progress, at_time: float, worker: WorkerId, at: str = "progress"
) -> AttemptProgressed:
    """Text of a running attempt, said by `worker` at `at_time`."""
    checks.few(proto.chunks, f"{at}.chunks", MAX_CHUNKS)
    chunks = tuple(chunk_from_proto(chunk, f"{at}.chunks[{index}]") for index, chunk in enumerate(proto.chunks))
    return AttemptProgressed(at_time, worker, _token(proto.fencing_token, f"{at}.fencing_token"), chunks)


def edits_proposed_to_proto(proposed: EditsProposed) -> worker_pb2.ProposedEdits:
    """Time and worker are for the receiver to fill in."""
    return worker_pb2.ProposedEdits(
        fencing_token=proposed.fencing_token,
        proposal=proposed.proposal,
        batch=edit_batch_to_proto(proposed.batch),
    )


def edits_proposed_from_proto(
    proto: worker_pb2.ProposedEdits, at_time: float, worker: WorkerId, at: str = "proposed"
) -> EditsProposed:
    """Edits that a running attempt wants."""
    token = _token(proto.fencing_token, f"{at}.fencing_token")
    number = checks.integer(proto.proposal, f"{at}.proposal", 1)
    return EditsProposed(at_time, worker, token, number, edit_batch_from_proto(proto.batch, f"{at}.batch"))


def finished_to_proto(report: AttemptSucceeded | AttemptFailed) -> worker_pb2.Finished:
    """How an attempt ended; raises InvalidField for a result that is too large or no JSON."""
    match report:
        case AttemptSucceeded():
            edits = None if report.batch is None else edit_batch_to_proto(report.batch, "edits")
            if isinstance(report.result, Artifact):
                artifact = artifact_to_proto(report.result)
                return worker_pb2.Finished(
                    fencing_token=report.fencing_token, artifact=artifact, edits=edits, tokens=report.tokens
                )
            return worker_pb2.Finished(
                fencing_token=report.fencing_token,
                result_json=checks.json_to_text(report.result, "result_json"),
                edits=edits,
                tokens=report.tokens,
            )
        case AttemptFailed():
            return worker_pb2.Finished(
                fencing_token=report.fencing_token,
                error=star_error_to_proto(report.error),
                is_stopped=report.is_stopped,
                tokens=report.tokens,
            )


def finished_from_proto(
    proto: worker_pb2.Finished, at_time: float, worker: WorkerId, chance: float, at: str = "finished"
) -> AttemptSucceeded | AttemptFailed:
    """How an attempt ended, said by `worker`; `chance` is the jitter of a backoff that may follow."""
    try:
        token = _token(proto.fencing_token, "fencing_token")
        tokens = checks.integer(proto.tokens, "tokens", 0, MAX_TOKENS)
        match proto.WhichOneof("outcome"):
            case "result_json" | "artifact" as kind:
                batch = edit_batch_from_proto(proto.edits, "edits") if proto.HasField("edits") else None
                result: Result
                if kind == "artifact":
                    result = artifact_from_proto(proto.artifact)
                else:
                    result = checks.json_from_text(proto.result_json, "result_json", depth=checks.MAX_GIVEN_DEPTH)
                return AttemptSucceeded(at_time, worker, token, result, batch, tokens)
            case "error":
                error = star_error_from_proto(proto.error)
                return AttemptFailed(at_time, worker, token, error, proto.is_stopped, chance, tokens)
            case _:
                pass
    except InvalidField as error:
        raise checks.placed(at, error) from None
    raise InvalidField(at, "must have a result_json, an artifact or an error")


def assign_to_proto(assign: Assign) -> worker_pb2.Assignment:
    """The worker is whoever reads it."""
    proto = worker_pb2.Assignment()
    write_assign(assign, proto)
    return proto


def write_assign(assign: Assign, proto: worker_pb2.Assignment) -> None:
    """Into an empty message, where it is to be; what says nothing is left out."""
    proto.constellation = assign.constellation
    proto.star = assign.star
    proto.attempt = assign.attempt
    proto.fencing_token = assign.fencing_token
    proto.kind = enums.STAR_KINDS[assign.kind]
    proto.program = assign.program
    proto.revision = assign.revision
    for name, value in assign.inputs.items():
        # Without a limit here: the core has refused larger inputs already, by an estimate that errs both ways.
        proto.inputs_json[name] = checks.json_to_text(value, f"inputs_json[{name}]", None)
    if assign.model is not None:
        proto.model = assign.model
    if assign.may_edit:
        proto.may_edit = True
    if assign.start_to_close_s is not None:
        proto.start_to_close_s = assign.start_to_close_s
    if assign.heartbeat_s is not None:
        proto.heartbeat_s = assign.heartbeat_s
    for index, place in enumerate(assign.places):
        proto.places.append(_place_to_proto(place, f"places[{index}]"))
    if assign.streams:
        proto.streams.extend(assign.streams)


def _place_to_proto(place: Place, at: str) -> worker_pb2.Place:
    return worker_pb2.Place(
        input=place.input,
        at=path_to_proto(place.at, f"{at}.at"),
        artifact=artifact_to_proto(place.artifact),
        path=path_to_proto(place.path, f"{at}.path"),
    )


def assign_from_proto(proto: worker_pb2.Assignment, worker: WorkerId, at: str = "assignment") -> Assign:
    """What `worker` is to run."""
    try:
        return Assign(
            worker,
            constellation_id(proto.constellation),
            star_id(proto.star, "star"),
            checks.integer(proto.attempt, "attempt", 1),
            _token(proto.fencing_token, "fencing_token"),
            checks.known(enums.STAR_KINDS_BACK, proto.kind, "kind"),
            checks.name(proto.program, "program"),
            _inputs_from_proto(proto.inputs_json),
            checks.word(proto.model, "model") if proto.model else None,
            checks.integer(proto.revision, "revision"),
            proto.may_edit,
            checks.positive(proto.start_to_close_s, "start_to_close_s") if proto.HasField("start_to_close_s") else None,
            checks.positive(proto.heartbeat_s, "heartbeat_s") if proto.HasField("heartbeat_s") else None,
            tuple(_place_from_proto(place, f"places[{index}]") for index, place in enumerate(proto.places))
            if proto.places
            else (),
            checks.names(proto.streams, "streams", MAX_INPUTS) if proto.streams else (),
        )
    except InvalidField as error:
        raise checks.placed(at, error) from None


def _inputs_from_proto(protos: Mapping[str, str]) -> dict[str, Json]:
    """In the order of their names: a proto map has none."""
    return {
        checks.name(name, "inputs_json"): checks.json_from_text(protos[name], f"inputs_json[{name}]", MAX_MESSAGE_BYTES)
        for name in sorted(protos)
    }


def _place_from_proto(proto: worker_pb2.Place, at: str) -> Place:
    return Place(
        checks.name(proto.input, f"{at}.input"),
        path_from_proto(proto.at, f"{at}.at"),
        artifact_from_proto(proto.artifact, f"{at}.artifact"),
        path_from_proto(proto.path, f"{at}.path"),
    )


def input_part_to_proto(part: InputText | InputValue) -> worker_pb2.InputPart:
    """The worker is whoever reads it."""
    proto = worker_pb2.InputPart(fencing_token=part.fencing_token, input=part.input)
    at = f"inputs[{part.input}]"
    if isinstance(part, InputText):
        proto.text.CopyFrom(worker_pb2.InputText(at=part.at, text=part.text))
    elif part.place is not None:
        proto.place.CopyFrom(_place_to_proto(part.place, at))
    else:
        proto.value_json = checks.json_to_text(part.value, at, None)
    return proto


def input_part_from_proto(proto: worker_pb2.InputPart, worker: WorkerId, at: str = "input") -> InputText | InputValue:
    """More of an input of an attempt on `worker`."""
    token = _token(proto.fencing_token, f"{at}.fencing_token")
    name = checks.name(proto.input, f"{at}.input")
    match proto.WhichOneof("part"):
        case "text":
            text = checks.text(proto.text.text, f"{at}.text", MAX_WRITTEN_CHARS)
            return InputText(worker, token, name, proto.text.at, text)
        case "value_json":
            value = checks.json_from_text(proto.value_json, f"{at}.value_json", MAX_MESSAGE_BYTES)
            return InputValue(worker, token, name, value)
        case "place":
            return InputValue(worker, token, name, None, _place_from_proto(proto.place, f"{at}.place"))
        case _:
            raise InvalidField(at, "must have a text, a value_json or a place")


def stop_to_proto(stop: Stop) -> worker_pb2.StopAttempt:
    """The worker is whoever reads it."""
    return worker_pb2.StopAttempt(fencing_token=stop.fencing_token, reason=checks.clipped(stop.reason))


def stop_from_proto(proto: worker_pb2.StopAttempt, worker: WorkerId, at: str = "stop") -> Stop:
    """Which attempt `worker` is to stop."""
    reason = checks.text(proto.reason, f"{at}.reason", checks.MAX_REASON)
    return Stop(worker, _token(proto.fencing_token, f"{at}.fencing_token"), reason)


def answer_edits_to_proto(answer: AnswerEdits) -> worker_pb2.EditsAnswer:
    """The worker is whoever reads it."""
    return worker_pb2.EditsAnswer(
        fencing_token=answer.fencing_token,
        proposal=answer.proposal,
        is_accepted=answer.is_accepted,
        reasons=[checks.clipped(reason) for reason in answer.reasons],
        revision=answer.revision,
    )


def answer_edits_from_proto(proto: worker_pb2.EditsAnswer, worker: WorkerId, at: str = "answer") -> AnswerEdits:
    """What became of edits that an attempt on `worker` proposed."""
    return AnswerEdits(
        worker,
        _token(proto.fencing_token, f"{at}.fencing_token"),
        proto.proposal,
        proto.is_accepted,
        tuple(checks.text(reason, f"{at}.reasons", checks.MAX_REASON) for reason in proto.reasons),
        checks.integer(proto.revision, f"{at}.revision"),
    )


def _token(value: int, at: str) -> FencingToken:
    return FencingToken(checks.integer(value, at))
