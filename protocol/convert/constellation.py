"""Requests, constellations as they stand, and their short pictures, both ways."""

from collections.abc import Mapping
from typing import Final

from asterism.orchestrator.core.constellation import Pause, TaskConstellation
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.request import MAX_REQUEST_BYTES, Budget, ConstellationState, Request
from asterism.orchestrator.core.snapshot import Summary
from asterism.orchestrator.core.star import Attempt, TaskStar
from asterism.protocol.convert import checks, enums
from asterism.protocol.convert.star import (
    artifact_from_proto,
    line_from_proto,
    line_to_proto,
    result_to_proto,
    star_error_from_proto,
    star_error_to_proto,
    star_spec_from_proto,
    star_spec_to_proto,
)
from asterism.protocol.v1 import client_pb2
from asterism.protocol.v1 import types_pb2 as pb

MAX_STARS: Final = 1_000_000
MAX_ATTEMPTS: Final = 10_000_000
MAX_REPLANS: Final = 100
MAX_TOKENS: Final = 10**15
MAX_REQUEST_ID: Final = 128


def constellation_id(value: str, at: str = "constellation") -> ConstellationId:
    """A checked constellation id."""
    return ConstellationId(checks.name(value, at))


def request_id_from_proto(value: str, at: str = "request_id") -> str:
    """1 to 128 printable characters, chosen by the client."""
    return checks.word(value, at, MAX_REQUEST_ID)


def request_to_proto(request: Request) -> pb.Request:
    """Options of None are left out."""
    options = checks.optional_json_to_text(request.options, "request.options_json")
    return pb.Request(form=request.form, text=request.text, name=request.name, options_json=options)


def request_from_proto(proto: pb.Request, at: str = "request") -> Request:
    """Whether some planner knows the form is not for here to say."""
    if len(proto.text.encode()) > MAX_REQUEST_BYTES:
        raise InvalidField(f"{at}.text", f"must be at most {MAX_REQUEST_BYTES} bytes")
    return Request(
        checks.name(proto.form, f"{at}.form"),
        proto.text,
        checks.text(proto.name, f"{at}.name", checks.MAX_TITLE),
        checks.optional_json_from_text(proto.options_json, f"{at}.options_json", checks.MAX_GIVEN_DEPTH),
    )


def budget_to_proto(budget: Budget) -> pb.Budget:
    """No seconds: without end."""
    return pb.Budget(
        stars=budget.stars,
        attempts=budget.attempts,
        seconds=budget.seconds,
        tokens=budget.tokens,
        replans=budget.replans,
    )


def budget_from_proto(proto: pb.Budget, at: str = "budget") -> Budget:
    """At least one star and one attempt, else nothing could ever run."""
    replans = checks.integer(proto.replans, f"{at}.replans", 0, MAX_REPLANS) if proto.HasField("replans") else None
    return Budget(
        checks.integer(proto.stars, f"{at}.stars", 1, MAX_STARS),
        checks.integer(proto.attempts, f"{at}.attempts", 1, MAX_ATTEMPTS),
        checks.positive(proto.seconds, f"{at}.seconds") if proto.HasField("seconds") else None,
        checks.integer(proto.tokens, f"{at}.tokens", 1, MAX_TOKENS) if proto.HasField("tokens") else None,
        Budget().replans if replans is None else replans,
    )


def constellation_state_to_proto(state: ConstellationState) -> pb.ConstellationState:
    """The enum's value."""
    return enums.CONSTELLATION_STATES[state]


def constellation_state_from_proto(value: pb.ConstellationState, at: str = "state") -> ConstellationState:
    """Refuses unspecified and unknown ones."""
    return checks.known(enums.CONSTELLATION_STATES_BACK, value, at)


def attempt_to_proto(attempt: Attempt) -> pb.Attempt:
    """A live attempt has no outcome."""
    return pb.Attempt(
        number=attempt.number,
        worker=attempt.worker,
        fencing_token=attempt.fencing_token,
        leased_at=attempt.leased_at,
        ended_at=attempt.ended_at,
        outcome=None if attempt.outcome is None else enums.OUTCOMES[attempt.outcome],
        error=None if attempt.error is None else star_error_to_proto(attempt.error),
        holds_slot=attempt.holds_slot,
    )


def attempt_from_proto(proto: pb.Attempt, at: str = "attempt") -> Attempt:
    """An unspecified outcome is a live attempt."""
    is_live = proto.outcome == pb.ATTEMPT_OUTCOME_UNSPECIFIED
    return Attempt(
        checks.integer(proto.number, f"{at}.number", 1),
        WorkerId(checks.name(proto.worker, f"{at}.worker")),
        FencingToken(checks.integer(proto.fencing_token, f"{at}.fencing_token")),
        checks.number(proto.leased_at, f"{at}.leased_at"),
        checks.number(proto.ended_at, f"{at}.ended_at") if proto.HasField("ended_at") else None,
        None if is_live else checks.known(enums.OUTCOMES_BACK, proto.outcome, f"{at}.outcome"),
        star_error_from_proto(proto.error, f"{at}.error") if proto.HasField("error") else None,
        proto.holds_slot,
    )


def task_star_to_proto(star: TaskStar, waiting_for: str = "", at: str = "star") -> pb.Star:
    """With what it waits for, if it waits."""
    result_json, artifact = result_to_proto(star.result, f"{at}.result_json")
    return pb.Star(
        spec=star_spec_to_proto(star.spec, f"{at}.spec"),
        state=enums.STAR_STATES[star.state],
        revision=star.revision,
        attempts=[attempt_to_proto(attempt) for attempt in star.attempts],
        retry_at=star.retry_at,
        ready_at=star.ready_at,
        finished_at=star.finished_at,
        result_json=result_json,
        artifact=artifact,
        error=None if star.error is None else star_error_to_proto(star.error),
        waiting_for=checks.clipped(waiting_for),
        version=star.version,
        source=star.source,
    )


def task_star_from_proto(proto: pb.Star, at: str = "star") -> TaskStar:
    """Without what it waits for, which is no part of the star."""
    return TaskStar(
        star_spec_from_proto(proto.spec, f"{at}.spec"),
        checks.known(enums.STAR_STATES_BACK, proto.state, f"{at}.state"),
        checks.integer(proto.revision, f"{at}.revision"),
        0,
        [attempt_from_proto(attempt, f"{at}.attempts[{index}]") for index, attempt in enumerate(proto.attempts)],
        checks.number(proto.retry_at, f"{at}.retry_at") if proto.HasField("retry_at") else None,
        checks.number(proto.ready_at, f"{at}.ready_at") if proto.HasField("ready_at") else None,
        checks.number(proto.finished_at, f"{at}.finished_at") if proto.HasField("finished_at") else None,
        artifact_from_proto(proto.artifact, f"{at}.artifact")
        if proto.HasField("artifact")
        else checks.optional_json_from_text(proto.result_json, f"{at}.result_json"),
        star_error_from_proto(proto.error, f"{at}.error") if proto.HasField("error") else None,
        checks.text(proto.version, f"{at}.version", checks.MAX_TITLE),
        checks.text(proto.source, f"{at}.source", checks.MAX_TITLE),
    )


def constellation_to_proto(
    constellation: TaskConstellation, waiting_for: Mapping[StarId, str], seq: int
) -> pb.Constellation:
    """The whole picture as of journal record `seq`; `waiting_for` says what each star that waits is waiting for."""
    pause = constellation.pause
    return pb.Constellation(
        id=constellation.id,
        request_id=constellation.request_id,
        owner=constellation.owner,
        request=request_to_proto(constellation.request),
        budget=budget_to_proto(constellation.budget),
        created_at=constellation.created_at,
        started_at=constellation.started_at,
        revision=constellation.revision,
        state=enums.CONSTELLATION_STATES[constellation.state],
        reason=checks.clipped(constellation.reason),
        ended_at=constellation.ended_at,
        stars=[
            task_star_to_proto(star, waiting_for.get(id_, ""), f"stars[{id_}]")
            for id_, star in constellation.stars.items()
        ],
        lines=[line_to_proto(line, "lines") for line in constellation.lines()],
        seq=seq,
        attempts=constellation.attempts,
        pause=None if pause is None else pb.Pause(by=pause.by, reason=checks.clipped(pause.reason), at=pause.at),
        resumed_at=constellation.resumed_at,
        replan=None if constellation.replan is None else star_spec_to_proto(constellation.replan, "replan"),
        is_pressed=constellation.is_pressed,
        tokens=constellation.tokens,
    )


def constellation_from_proto(
    proto: pb.Constellation, at: str = "constellation"
) -> tuple[TaskConstellation, dict[StarId, str]]:
    """The constellation, and what each waiting star waits for; refuses lines between stars that it does not hold."""
    stars: dict[StarId, TaskStar] = {}
    waiting_for: dict[StarId, str] = {}
    for index, star_proto in enumerate(proto.stars):
        star = task_star_from_proto(star_proto, f"{at}.stars[{index}]")
        if star.spec.id in stars:
            raise InvalidField(f"{at}.stars[{index}].spec.id", f"{star.spec.id} is there twice")
        stars[star.spec.id] = star
        if star_proto.waiting_for:
            waiting_for[star.spec.id] = star_proto.waiting_for
    constellation = TaskConstellation(
        constellation_id(proto.id, f"{at}.id"),
        request_id_from_proto(proto.request_id, f"{at}.request_id"),
        checks.text(proto.owner, f"{at}.owner", checks.MAX_TITLE),
        request_from_proto(proto.request, f"{at}.request"),
        budget_from_proto(proto.budget, f"{at}.budget"),
        checks.number(proto.created_at, f"{at}.created_at"),
        checks.number(proto.started_at, f"{at}.started_at"),
        checks.integer(proto.revision, f"{at}.revision"),
        constellation_state_from_proto(proto.state, f"{at}.state"),
        checks.text(proto.reason, f"{at}.reason", checks.MAX_REASON),
        checks.number(proto.ended_at, f"{at}.ended_at") if proto.HasField("ended_at") else None,
        stars,
        unfinished=sum(not star.state.is_terminal for star in stars.values()),
        attempts=proto.attempts,
        seq=checks.integer(proto.seq, f"{at}.seq"),
        pause=_pause_from_proto(proto.pause, f"{at}.pause") if proto.HasField("pause") else None,
        resumed_at=checks.number(proto.resumed_at, f"{at}.resumed_at") if proto.HasField("resumed_at") else None,
        replan=star_spec_from_proto(proto.replan, f"{at}.replan") if proto.HasField("replan") else None,
        is_pressed=proto.is_pressed,
        tokens=checks.integer(proto.tokens, f"{at}.tokens"),
    )
    for index, line_proto in enumerate(proto.lines):
        line = line_from_proto(line_proto, f"{at}.lines[{index}]")
        if line.parent not in stars or line.child not in stars:
            raise InvalidField(f"{at}.lines[{index}]", f"joins {line.parent} to {line.child}, and not both are there")
        constellation.add_line(line)
    return constellation, waiting_for


def _pause_from_proto(proto: pb.Pause, at: str) -> Pause:
    by = checks.text(proto.by, f"{at}.by", checks.MAX_REASON)
    return Pause(by, checks.text(proto.reason, f"{at}.reason", checks.MAX_REASON), checks.number(proto.at, f"{at}.at"))


def summary_to_proto(summary: Summary) -> client_pb2.Summary:
    """Field by field."""
    return client_pb2.Summary(
        id=summary.id,
        request_id=summary.request_id,
        owner=summary.owner,
        name=summary.name,
        form=summary.form,
        created_at=summary.created_at,
        state=enums.CONSTELLATION_STATES[summary.state],
        reason=checks.clipped(summary.reason),
        ended_at=summary.ended_at,
        revision=summary.revision,
        stars=summary.stars,
        stars_terminal=summary.stars_terminal,
    )


def summary_from_proto(proto: client_pb2.Summary, at: str = "summary") -> Summary:
    """Field by field."""
    return Summary(
        constellation_id(proto.id, f"{at}.id"),
        request_id_from_proto(proto.request_id, f"{at}.request_id"),
        checks.text(proto.owner, f"{at}.owner", checks.MAX_TITLE),
        checks.text(proto.name, f"{at}.name", checks.MAX_TITLE),
        checks.name(proto.form, f"{at}.form"),
        checks.number(proto.created_at, f"{at}.created_at"),
        constellation_state_from_proto(proto.state, f"{at}.state"),
        checks.text(proto.reason, f"{at}.reason", checks.MAX_REASON),
        checks.number(proto.ended_at, f"{at}.ended_at") if proto.HasField("ended_at") else None,
        checks.integer(proto.revision, f"{at}.revision"),
        proto.stars,
        proto.stars_terminal,
    )
