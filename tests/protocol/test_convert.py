"""Conversion is total both ways, and refuses bad fields by their path."""

import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asterism.orchestrator.core import edits as e
from asterism.orchestrator.core.condition import Comparison
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.effects import AnswerEdits, Assign, Place, Stop
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.events import AttemptFailed, AttemptProgressed, AttemptSucceeded, Chunk, EditsProposed
from asterism.orchestrator.core.ids import FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.records import ConstellationRecord
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.snapshot import Summary
from asterism.orchestrator.core.star import Attempt, AttemptOutcome, StarKind, StarSpec, StarState
from asterism.orchestrator.core.values import MAX_VALUE_BYTES, Json
from asterism.protocol import convert
from asterism.protocol.answers import StreamedText, WorkerStatus
from asterism.protocol.convert import enums
from asterism.protocol.convert.edits import MAX_EDITS
from asterism.protocol.v1 import types_pb2 as pb
from tests import strategies as s

M = TypeVar("M", bound=Message)

chunks: st.SearchStrategy[Chunk] = st.builds(Chunk, s.names, s.texts, st.integers(0, 2**32 - 1))
chunk_tuples = st.lists(chunks, max_size=3).map(tuple)
small_counts = st.integers(0, 2**32 - 1)


quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Drawing whole graphs takes longer than converting them."""


def over_the_wire(message: M) -> M:
    """As the other side reads it."""
    return type(message).FromString(message.SerializeToString())


@quick
@given(s.edit_batches)
def test_edit_batch_survives_the_wire(batch: e.EditBatch) -> None:
    assert convert.edit_batch_from_proto(over_the_wire(convert.edit_batch_to_proto(batch))) == batch


@quick
@given(s.constellation_records)
def test_record_survives_the_wire(record: ConstellationRecord) -> None:
    assert convert.record_from_proto(over_the_wire(convert.record_to_proto(record))) == record


@quick
@given(s.constellations(), s.texts)
def test_constellation_survives_the_wire(constellation: TaskConstellation, reason: str) -> None:
    waiting_for = dict.fromkeys(constellation.stars, reason) if reason else {}
    proto = convert.constellation_to_proto(constellation, waiting_for, constellation.seq)
    again, waiting_again = convert.constellation_from_proto(over_the_wire(proto))
    assert again == constellation
    assert list(again.stars) == list(constellation.stars)
    assert waiting_again == waiting_for


@quick
@given(s.attempts)
def test_attempt_survives_the_wire(attempt: Attempt) -> None:
    assert convert.attempt_from_proto(over_the_wire(convert.attempt_to_proto(attempt))) == attempt


@quick
@given(
    st.builds(
        Summary,
        s.constellation_ids,
        s.names,
        s.names,
        s.lines_of_text,
        s.names,
        s.times,
        st.sampled_from(ConstellationState),
        s.texts,
        st.none() | s.times,
        s.counts,
        small_counts,
        small_counts,
    )
)
def test_summary_survives_the_wire(summary: Summary) -> None:
    assert convert.summary_from_proto(over_the_wire(convert.summary_to_proto(summary))) == summary


@quick
@given(
    st.builds(
        Assign,
        st.just(WorkerId("w")),
        s.constellation_ids,
        s.star_ids,
        s.attempt_numbers,
        s.fencing_tokens,
        st.sampled_from(StarKind),
        s.names,
        st.dictionaries(s.names, s.json_values, max_size=3),
        st.none() | s.names,
        s.counts,
        st.booleans(),
        st.none() | s.seconds,
        st.none() | s.seconds,
        st.lists(st.builds(Place, s.names, s.paths, s.artifacts, s.paths), max_size=2).map(tuple),
    )
)
def test_assignment_survives_the_wire(assign: Assign) -> None:
    assert convert.assign_from_proto(over_the_wire(convert.assign_to_proto(assign)), WorkerId("w")) == assign


@quick
@given(st.builds(Stop, st.just(WorkerId("w")), s.fencing_tokens, s.texts))
def test_stop_survives_the_wire(stop: Stop) -> None:
    assert convert.stop_from_proto(over_the_wire(convert.stop_to_proto(stop)), WorkerId("w")) == stop


@quick
@given(
    st.builds(
        AnswerEdits,
        st.just(WorkerId("w")),
        s.fencing_tokens,
        small_counts,
        st.booleans(),
        st.lists(s.texts, max_size=3).map(tuple),
        s.counts,
    )
)
def test_answer_to_edits_survives_the_wire(answer: AnswerEdits) -> None:
    proto = over_the_wire(convert.answer_edits_to_proto(answer))
    assert convert.answer_edits_from_proto(proto, WorkerId("w")) == answer


@quick
@given(
    st.builds(AttemptSucceeded, s.times, s.worker_ids, s.fencing_tokens, s.results, st.none() | s.edit_batches)
    | st.builds(AttemptFailed, s.times, s.worker_ids, s.fencing_tokens, s.star_errors, st.booleans(), s.chances)
)
def test_report_survives_the_wire(report: AttemptSucceeded | AttemptFailed) -> None:
    chance = report.chance if isinstance(report, AttemptFailed) else 0.5
    proto = over_the_wire(convert.finished_to_proto(report))
    assert convert.finished_from_proto(proto, report.at, report.worker, chance) == report


@quick
@given(st.builds(EditsProposed, s.times, s.worker_ids, s.fencing_tokens, st.integers(1, 2**32 - 1), s.edit_batches))
def test_proposed_edits_survive_the_wire(proposed: EditsProposed) -> None:
    proto = over_the_wire(convert.edits_proposed_to_proto(proposed))
    assert convert.edits_proposed_from_proto(proto, proposed.at, proposed.worker) == proposed
    proto.proposal = 0
    with pytest.raises(InvalidField, match=r"proposed\.proposal: must be 1 to"):
        convert.edits_proposed_from_proto(proto, proposed.at, proposed.worker)


@quick
@given(st.builds(AttemptProgressed, s.times, s.worker_ids, s.fencing_tokens, chunk_tuples))
def test_progress_survives_the_wire(progressed: AttemptProgressed) -> None:
    proto = over_the_wire(convert.progress_to_proto(progressed.fencing_token, progressed.chunks))
    assert convert.progress_from_proto(proto, progressed.at, progressed.worker) == progressed


@quick
@given(
    st.builds(
        WorkerStatus,
        s.worker_ids,
        s.profiles,
        st.booleans(),
        st.booleans(),
        small_counts,
        s.labels,
        s.times,
    ),
    st.lists(s.fencing_tokens, max_size=3),
)
def test_worker_survives_the_wire(status: WorkerStatus, held: list[FencingToken]) -> None:
    assert convert.worker_status_from_proto(over_the_wire(convert.worker_status_to_proto(status))) == status
    hello = over_the_wire(convert.hello_to_proto(status.id, "i", status.profile, held))
    attached = convert.hello_from_proto(hello, 1.0)
    assert (attached.worker, attached.profile) == (status.id, status.profile)
    assert [attempt.fencing_token for attempt in attached.held] == held
    assert convert.hello_from_proto(hello, 1.0, WorkerId("named")).worker == "named"


@quick
@given(st.builds(StreamedText, s.star_ids, s.attempt_numbers, s.worker_ids, chunk_tuples))
def test_streamed_text_survives_the_wire(text: StreamedText) -> None:
    assert convert.streamed_text_from_proto(over_the_wire(convert.streamed_text_to_proto(text))) == text


@pytest.mark.parametrize(
    ("table", "core", "values"),
    [
        (enums.STAR_STATES, StarState, pb.StarState.values()),
        (enums.STAR_KINDS, StarKind, pb.StarKind.values()),
        (enums.CONSTELLATION_STATES, ConstellationState, pb.ConstellationState.values()),
        (enums.OUTCOMES, AttemptOutcome, pb.AttemptOutcome.values()),
        (enums.LINE_KINDS, LineKind, pb.LineKind.values()),
        (enums.COMPARISONS, Comparison, pb.Comparison.values()),
    ],
)
def test_table_pairs_every_value_of_both_enums(
    table: Mapping[Enum, int], core: type[Enum], values: Sequence[int]
) -> None:
    assert set(table) == set(core)
    assert {0, *table.values()} == set(values)


def star(**fields: object) -> pb.StarSpec:
    spec = pb.StarSpec(id="a", kind=pb.STAR_KIND_TOOL, program="p")
    spec.MergeFrom(pb.StarSpec(**fields))  # type: ignore[arg-type]  # each test gives one field of its own type
    return spec


def constant(text: str) -> dict[str, pb.Input]:
    return {"x": pb.Input(constant_json=text)}


DEEP = "[" * 65 + "]" * 65
BAD_STARS: Sequence[tuple[str, pb.StarSpec]] = [
    ("id", star(id="a/b")),
    ("id", star(id="a" * 65)),
    ("program", star(program="..")),
    ("kind", star(kind=99)),
    ("kind", pb.StarSpec(id="a", program="p")),
    ("priority", star(priority=101)),
    ("title", star(title="t" * 201)),
    ("requires[1]", star(requires=["gpu", "a\nb"])),
    ("requires[0]", star(requires=["c" * 129])),
    ("requires", star(requires=[f"label:a={n}" for n in range(33)])),
    ("inputs", star(inputs={f"i{n}": pb.Input(constant_json="1") for n in range(65)})),
    ("inputs", star(inputs={"a b": pb.Input(constant_json="1")})),
    ("inputs[x]", star(inputs={"x": pb.Input()})),
    ("inputs[x].constant_json", star(inputs=constant("NaN"))),
    ("inputs[x].constant_json", star(inputs=constant("[-Infinity]"))),
    ("inputs[x].constant_json", star(inputs=constant("1e999"))),
    ("inputs[x].constant_json", star(inputs=constant("9" * 301))),
    ("inputs[x].constant_json", star(inputs=constant(""))),
    ("inputs[x].constant_json", star(inputs=constant("{'a': 1}"))),
    ("inputs[x].constant_json", star(inputs=constant('"\\ud800"'))),
    ("inputs[x].constant_json", star(inputs=constant(DEEP))),
    ("inputs[x].constant_json", star(inputs=constant("[" * 100_000))),
    ("inputs[x].constant_json", star(inputs=constant('"' + "ä" * (MAX_VALUE_BYTES // 2) + '"'))),
    ("inputs[x].output_of.star", star(inputs={"x": pb.Input(output_of=pb.Input.OutputOf())})),
    (
        "inputs[x].output_of.path[0]",
        star(inputs={"x": pb.Input(output_of=pb.Input.OutputOf(star="b", path=[pb.PathStep()]))}),
    ),
    (
        "inputs[x].output_of.path",
        star(inputs={"x": pb.Input(output_of=pb.Input.OutputOf(star="b", path=[pb.PathStep(index=1)] * 33))}),
    ),
    ("timeouts.start_to_close_s", star(timeouts=pb.Timeouts(start_to_close_s=0.0))),
    ("timeouts.heartbeat_s", star(timeouts=pb.Timeouts(heartbeat_s=float("inf")))),
    ("timeouts.schedule_to_start_s", star(timeouts=pb.Timeouts(schedule_to_start_s=float("nan")))),
    ("retry.max_attempts", star(retry=pb.RetryPolicy(multiplier=1))),
    ("retry.jitter", star(retry=pb.RetryPolicy(max_attempts=1, multiplier=1, jitter=1.5))),
]


@pytest.mark.parametrize(("field", "proto"), BAD_STARS, ids=[f"{n}-{field}" for n, (field, _) in enumerate(BAD_STARS)])
def test_bad_star_is_refused_by_the_path_of_its_field(field: str, proto: pb.StarSpec) -> None:
    edits = [pb.Edit(cancel_star=pb.Edit.CancelStar(star="z")), pb.Edit(add_star=pb.Edit.AddStar(spec=proto))]
    with pytest.raises(InvalidField) as refused:
        convert.edit_batch_from_proto(pb.EditBatch(edits=edits))
    assert refused.value.field == f"batch.edits[1].add_star.spec.{field}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1, 2}, json.loads(DEEP), b"x"], ids=repr)
def test_value_that_is_no_json_is_refused_on_the_way_out(value: Json) -> None:
    with pytest.raises(InvalidField, match="result"):
        convert.json_to_text(value, "result")


@pytest.mark.parametrize("value", ["9" * 400, [[[[]]]] * 100, {"a": ("b",)}, "{{x}} ${a.out} \\ud800"], ids=str)
def test_odd_value_that_is_json_survives(value: Json) -> None:
    again = convert.json_from_text(convert.json_to_text(value, "x"), "x")
    assert convert.json_to_text(again, "x") == convert.json_to_text(value, "x")


def test_deepest_allowed_value_survives_and_one_deeper_does_not() -> None:
    deepest = "[" * 64 + "]" * 64
    assert convert.json_to_text(convert.json_from_text(deepest, "x"), "x") == deepest
    with pytest.raises(InvalidField, match="64 deep"):
        convert.json_from_text(DEEP, "x")


def test_failure_is_reported_however_long_its_message() -> None:
    proto = convert.star_error_to_proto(convert.star_error_from_proto(pb.StarError(code="c", message="m" * 4000)))
    assert len(proto.message) == 4000
    from_long = convert.star_error_from_proto(proto)
    assert len(convert.star_error_to_proto(from_long).message) == 4000


def test_line_between_stars_that_are_not_there_is_refused() -> None:
    line = pb.Line(parent="a", child="b", kind=pb.LINE_KIND_SUCCESS)
    proto = pb.Constellation(
        id="c",
        request_id="r",
        request=pb.Request(form="plan"),
        budget=pb.Budget(stars=1, attempts=1),
        state=pb.CONSTELLATION_STATE_RUNNING,
        lines=[line],
    )
    with pytest.raises(InvalidField, match=r"constellation\.lines\[0\]"):
        convert.constellation_from_proto(proto)


EXISTS = pb.Condition.Compare(comparison=pb.COMPARISON_EXISTS)


@pytest.mark.parametrize(
    ("kind", "condition"),
    [(pb.LINE_KIND_CONDITION, None), (pb.LINE_KIND_SUCCESS, pb.Condition(terms=[pb.Condition.Term(compare=EXISTS)]))],
)
def test_condition_belongs_to_condition_lines_only(kind: pb.LineKind, condition: pb.Condition | None) -> None:
    with pytest.raises(InvalidField, match=r"line\.condition"):
        convert.line_from_proto(pb.Line(parent="a", child="b", kind=kind, condition=condition))


@pytest.mark.parametrize(
    "terms",
    [
        [],
        [pb.Condition.Term()],
        [pb.Condition.Term(operator=pb.Condition.OPERATOR_NOT)],
        [pb.Condition.Term(compare=EXISTS), pb.Condition.Term(operator=pb.Condition.OPERATOR_AND)],
        [pb.Condition.Term(compare=EXISTS)] * 2,
        [pb.Condition.Term(compare=EXISTS), *[pb.Condition.Term(operator=pb.Condition.OPERATOR_NOT)] * 64],
    ],
)
def test_condition_that_cannot_be_evaluated_is_refused(terms: list[pb.Condition.Term]) -> None:
    with pytest.raises(InvalidField, match=r"line\.condition"):
        convert.line_from_proto(
            pb.Line(parent="a", child="b", kind=pb.LINE_KIND_CONDITION, condition=pb.Condition(terms=terms))
        )


def test_absent_timeouts_and_retry_are_the_defaults() -> None:
    spec = convert.star_spec_from_proto(star())
    assert spec == convert.star_spec_from_proto(convert.star_spec_to_proto(spec))
    assert spec.retry.max_attempts == 3


READERS: Sequence[tuple[type[Message], Callable[..., object]]] = [
    (pb.EditBatch, convert.edit_batch_from_proto),
    (pb.Record, convert.record_from_proto),
    (pb.Constellation, convert.constellation_from_proto),
    (pb.Request, convert.request_from_proto),
    (pb.Budget, convert.budget_from_proto),
    (pb.WorkerProfile, convert.worker_profile_from_proto),
]


@st.composite
def random_messages(draw: st.DrawFn, kind: type[Message]) -> Message:
    """Messages of `kind` that no well-behaved peer would send."""
    return _random_message(draw, kind)


def _random_message(draw: st.DrawFn, kind: type[Message], depth: int = 0) -> Message:
    """A message of `kind` with any fields set to anything that its wire type can carry."""
    message = kind()
    descriptor: Any = message.DESCRIPTOR
    for field in descriptor.fields:
        if depth > 5 or draw(st.integers(0, 2)) == 0:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _random_map(draw, message, field.name, field.message_type, depth)
            continue
        if field.message_type is not None:
            inner_kind = GetMessageClass(field.message_type)
            if field.is_repeated:
                for _ in range(draw(st.integers(0, 2))):
                    getattr(message, field.name).append(_random_message(draw, inner_kind, depth + 1))
            else:
                getattr(message, field.name).CopyFrom(_random_message(draw, inner_kind, depth + 1))
            continue
        values = _scalars(field.type)
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values, max_size=3)))
        else:
            setattr(message, field.name, draw(values))
    return message


def _random_map(draw: st.DrawFn, message: Message, name: str, entry: Any, depth: int) -> None:
    value = entry.fields_by_name["value"]
    for key in draw(st.lists(_scalars(entry.fields_by_name["key"].type), max_size=2)):
        if value.message_type is not None:
            getattr(message, name)[key].CopyFrom(_random_message(draw, GetMessageClass(value.message_type), depth + 1))
        else:
            getattr(message, name)[key] = draw(_scalars(value.type))


TEXTS = st.one_of(
    s.names,
    s.texts,
    st.sampled_from(["", "null", "NaN", "1e999", '"\\ud800"', "[" * 5000, '{"a": [1]}', "a" * 300, "\x00", "9" * 5000]),
)


def _scalars(kind: int) -> st.SearchStrategy[object]:
    match kind:
        case FieldDescriptor.TYPE_STRING:
            return TEXTS
        case FieldDescriptor.TYPE_BYTES:
            return st.binary(min_size=31, max_size=32)
        case FieldDescriptor.TYPE_DOUBLE:
            return st.floats()
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_UINT64:
            return st.integers(0, 2**64 - 1)
        case FieldDescriptor.TYPE_SINT32 | FieldDescriptor.TYPE_ENUM:
            return st.integers(-5, 10) | st.integers(-(2**31), 2**31 - 1)
        case _:
            return st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(("kind", "read"), READERS, ids=[kind.__name__ for kind, _ in READERS])
@quick
@given(data=st.data())
def test_any_message_converts_or_is_refused_with_a_field(
    kind: type[Message], read: Callable[..., object], data: st.DataObject
) -> None:
    message = over_the_wire(data.draw(random_messages(kind)))
    try:
        read(message)
    except InvalidField as refused:
        assert refused.field  # noqa: PT017  # converting is fine too, which `raises` cannot say


@pytest.mark.parametrize(("kind", "read"), READERS, ids=[kind.__name__ for kind, _ in READERS])
@quick
@given(noise=st.binary(max_size=200))
def test_any_bytes_convert_or_are_refused(kind: type[Message], read: Callable[..., object], noise: bytes) -> None:
    try:
        message = kind.FromString(noise)
    except DecodeError:
        return
    try:
        read(message)
    except InvalidField as refused:
        assert refused.field  # noqa: PT017  # converting is fine too, which `raises` cannot say


def added_with_lines(*parents: str) -> tuple[e.Edit, ...]:
    """Two stars, the second behind `parents` and, at last, behind the first whatever becomes of it."""
    first, second = StarId("first"), StarId("second")
    return (
        e.AddStar(StarSpec(first, StarKind.TOOL, "noop")),
        e.AddStar(StarSpec(second, StarKind.TOOL, "noop"), tuple(map(StarId, parents))),
        e.AddLine(TaskStarLine(first, second, LineKind.COMPLETION)),
    )


def test_refusal_names_the_place_of_a_parent() -> None:
    proto = convert.edit_batch_to_proto(e.EditBatch(added_with_lines("a", "first", "b")))
    proto.edits[1].add_star.after[2] = "not a name"
    with pytest.raises(InvalidField, match=r"batch.edits\[1\].add_star.after\[2\]: a name must match"):
        convert.edit_batch_from_proto(proto)
    proto.edits[1].add_star.after[2] = "b"
    proto.edits[2].add_line.line.child = ""
    with pytest.raises(InvalidField, match=r"batch.edits\[2\].add_line.line.child"):
        convert.edit_batch_from_proto(proto)


def test_short_lines_count_against_the_most_edits() -> None:
    proto = convert.edit_batch_to_proto(e.EditBatch(added_with_lines()))
    proto.edits[1].add_star.after.extend(["a"] * MAX_EDITS)
    with pytest.raises(InvalidField, match=r"batch.edits: must have at most 20000 entries"):
        convert.edit_batch_from_proto(proto)
