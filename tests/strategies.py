"""Hypothesis strategies for every type of the core: values that a caller could really bring, odd corners included."""

from collections.abc import Mapping
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from asterism.orchestrator.core import edits as e
from asterism.orchestrator.core import events as ev
from asterism.orchestrator.core import records as r
from asterism.orchestrator.core.condition import Compare, Comparison, Condition, Connect, Operator
from asterism.orchestrator.core.constellation import Pause, TaskConstellation
from asterism.orchestrator.core.credential import Role, StoredCredential
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.profile import Description, Effect, Gpu, WorkerProfile
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import (
    Attempt,
    AttemptOutcome,
    Constant,
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarError,
    StarInput,
    StarKind,
    StarSpec,
    StarState,
    TaskStar,
    Timeouts,
)
from asterism.orchestrator.core.values import Artifact, Json, Path, Result

LARGEST_EXACT_INT: Final = 2**53
"""JSON readers that hold numbers as doubles keep integers exactly up to here."""

# --- values

texts: SearchStrategy[str] = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
"""Any text that UTF-8 can carry."""
lines_of_text: SearchStrategy[str] = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
"""Text without control characters."""
names: SearchStrategy[str] = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.~-]{0,6}", fullmatch=True)
times: SearchStrategy[float] = st.floats(0, 4e9)
"""Seconds since the epoch."""
chances: SearchStrategy[float] = st.floats(0, 1, exclude_max=True)
seconds: SearchStrategy[float] = st.floats(0.001, 1e6)
counts: SearchStrategy[int] = st.integers(0, 2**40)

json_scalars: SearchStrategy[Json] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-LARGEST_EXACT_INT, LARGEST_EXACT_INT),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.sampled_from(["$1", "{{x}}", "${a.out}", "\x00"]),
)


def _containers(inner: SearchStrategy[Json]) -> SearchStrategy[Json]:
    return st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)


json_values: SearchStrategy[Json] = st.recursive(json_scalars, _containers, max_leaves=6)
json_mappings: SearchStrategy[Mapping[str, Json]] = st.dictionaries(texts, json_values, max_size=3)
artifacts: SearchStrategy[Artifact] = st.builds(
    Artifact, st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 2**40)
)
results: SearchStrategy[Result] = st.one_of(
    json_values,
    artifacts,
    artifacts.map(lambda artifact: {"sha256": artifact.sha256, "size": artifact.size}),
    artifacts.map(str),
)
"""What a star may give, with values among it that only look like an artifact."""
paths: SearchStrategy[Path] = st.lists(texts | st.integers(0, 100), max_size=3).map(tuple)

# --- ids

constellation_ids: SearchStrategy[ConstellationId] = names.map(ConstellationId)
star_ids: SearchStrategy[StarId] = names.map(StarId)
worker_ids: SearchStrategy[WorkerId] = names.map(WorkerId)
fencing_tokens: SearchStrategy[FencingToken] = st.integers(1, 2**62).map(FencingToken)
sequence_numbers: SearchStrategy[int] = st.integers(1, 2**40)
attempt_numbers: SearchStrategy[int] = st.integers(1, 10_000)
proposal_numbers: SearchStrategy[int] = st.integers(0, 2**32 - 1)

# --- requests, workers, credentials

budgets: SearchStrategy[Budget] = st.builds(
    Budget, stars=st.integers(1, 10**6), attempts=st.integers(1, 10**6), seconds=st.none() | seconds
)
requests: SearchStrategy[Request] = st.builds(Request, form=names, text=texts, name=lines_of_text, options=json_values)
gpus: SearchStrategy[Gpu] = st.builds(Gpu, name=lines_of_text, memory_bytes=counts)
labels: SearchStrategy[dict[str, str]] = st.dictionaries(names, names, max_size=3)
_name_tuples: SearchStrategy[tuple[str, ...]] = st.lists(names, max_size=3, unique=True).map(tuple)
_effects: SearchStrategy[Description] = st.builds(
    Description,
    names.map("tool:{}".format),
    st.sampled_from(Effect),
    names,
    lines_of_text,
    json_mappings,
)
_cached: SearchStrategy[Description] = st.builds(
    Description, names.map("tool:{}".format), st.just(Effect.PURE), cache_s=seconds
)
descriptions: SearchStrategy[Description] = _effects | _cached
profiles: SearchStrategy[WorkerProfile] = st.builds(
    WorkerProfile,
    slots=st.integers(1, 4096),
    os=lines_of_text,
    architecture=lines_of_text,
    cores=st.integers(0, 1024),
    memory_bytes=counts,
    gpus=st.lists(gpus, max_size=2).map(tuple),
    models=_name_tuples,
    tools=_name_tuples,
    programs=_name_tuples,
    labels=labels,
    version=lines_of_text,
    descriptions=st.lists(descriptions, max_size=2).map(tuple),
)
secret_hashes: SearchStrategy[bytes] = st.binary(min_size=32, max_size=32)
credentials: SearchStrategy[StoredCredential] = st.builds(
    StoredCredential,
    name=names,
    role=st.sampled_from(Role),
    secret_sha256=secret_hashes,
    created_at=times,
    expires_at=times,
    revoked_at=st.none() | times,
)

# --- stars and lines

star_inputs: SearchStrategy[StarInput] = st.one_of(
    st.builds(Constant, json_values), st.builds(OutputOf, star_ids, paths), st.just(ParentOutcomes())
)
input_mappings: SearchStrategy[dict[str, StarInput]] = st.dictionaries(names, star_inputs, max_size=3)
timeouts: SearchStrategy[Timeouts] = st.builds(
    Timeouts,
    schedule_to_start_s=st.none() | seconds,
    start_to_close_s=st.none() | seconds,
    heartbeat_s=st.none() | seconds,
)
retry_policies: SearchStrategy[RetryPolicy] = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    backoff_s=st.floats(0, 1e4),
    multiplier=st.floats(1, 10),
    max_backoff_s=st.floats(0, 1e5),
    jitter=st.floats(0, 1),
)
capability_sets: SearchStrategy[frozenset[str]] = st.frozensets(
    st.one_of(names.map("model:{}".format), st.tuples(names, names).map(lambda pair: f"label:{pair[0]}={pair[1]}")),
    max_size=3,
)
priorities: SearchStrategy[int] = st.integers(-100, 100)


def star_specs(ids: SearchStrategy[StarId] = star_ids) -> SearchStrategy[StarSpec]:
    """Specifications of stars with any of `ids`."""
    return st.builds(
        StarSpec,
        id=ids,
        kind=st.sampled_from(StarKind),
        program=names,
        inputs=input_mappings,
        requires=capability_sets,
        priority=priorities,
        timeouts=timeouts,
        retry=retry_policies,
        may_edit=st.booleans(),
        title=lines_of_text,
        quorum=st.integers(0, 3),
        is_idempotent=st.none() | st.booleans(),
    )


_compares: SearchStrategy[Compare] = st.builds(Compare, paths, st.sampled_from(Comparison), json_values, st.booleans())


def _joined(inner: SearchStrategy[Condition]) -> SearchStrategy[Condition]:
    operators = st.sampled_from([Operator.AND, Operator.OR])
    two = st.builds(lambda a, b, by: Condition((*a.terms, *b.terms, Connect(by))), inner, inner, operators)
    return two | inner.map(lambda condition: Condition((*condition.terms, Connect(Operator.NOT))))


conditions: SearchStrategy[Condition] = st.recursive(
    _compares.map(lambda compare: Condition((compare,))), _joined, max_leaves=4
)


def star_lines(
    parents: SearchStrategy[StarId] = star_ids, children: SearchStrategy[StarId] = star_ids
) -> SearchStrategy[TaskStarLine]:
    """Lines from any of `parents` to any of `children`; a condition exactly where the kind asks for one."""
    unconditional = st.sampled_from([LineKind.SUCCESS, LineKind.COMPLETION, LineKind.QUORUM, LineKind.STREAM])
    return st.builds(TaskStarLine, parents, children, unconditional) | st.builds(
        TaskStarLine, parents, children, st.just(LineKind.CONDITION), conditions
    )


star_errors: SearchStrategy[StarError] = st.builds(StarError, names, texts, st.booleans())
terminal_star_states: SearchStrategy[StarState] = st.sampled_from([s for s in StarState if s.is_terminal])
ended_outcomes: SearchStrategy[AttemptOutcome] = st.sampled_from(AttemptOutcome)
attempts: SearchStrategy[Attempt] = st.builds(Attempt, attempt_numbers, worker_ids, fencing_tokens, times) | st.builds(
    Attempt,
    attempt_numbers,
    worker_ids,
    fencing_tokens,
    times,
    ended_at=times,
    outcome=ended_outcomes,
    error=st.none() | star_errors,
    holds_slot=st.booleans(),
)

# --- edits

edits: SearchStrategy[e.Edit] = st.one_of(
    st.builds(e.AddStar, star_specs(), st.lists(star_ids, max_size=3).map(tuple)),
    st.builds(e.RemoveStar, star_ids),
    st.builds(
        e.UpdateStar,
        star=star_ids,
        priority=st.none() | priorities,
        requires=st.none() | capability_sets,
        timeouts=st.none() | timeouts,
        retry=st.none() | retry_policies,
        title=st.none() | lines_of_text,
    ),
    st.builds(e.AddLine, star_lines()),
    st.builds(e.RemoveLine, star_ids, star_ids),
    st.builds(e.RebindInputs, star_ids, input_mappings),
    st.builds(e.CancelStar, star_ids),
)
_edit_tuples: SearchStrategy[tuple[e.Edit, ...]] = st.lists(edits, max_size=4).map(tuple)
edit_batches: SearchStrategy[e.EditBatch] = st.builds(e.EditBatch, _edit_tuples, st.none() | counts)

# --- whole constellations


@st.composite
def task_stars(draw: st.DrawFn, ids: SearchStrategy[StarId] = star_ids) -> TaskStar:
    """A star in any state, with fields that fit the state; its place in a graph is left to the caller."""
    spec = draw(star_specs(ids))
    state = draw(st.sampled_from(StarState))
    star = TaskStar(spec, state, draw(counts))
    for number in range(1, draw(st.integers(0, 2)) + 1):
        ended = Attempt(number, draw(worker_ids), draw(fencing_tokens), draw(times), draw(times), draw(ended_outcomes))
        ended.error, ended.holds_slot = draw(st.none() | star_errors), draw(st.booleans())
        star.attempts.append(ended)
    if state is StarState.RUNNING:
        number = len(star.attempts) + 1
        star.attempts.append(Attempt(number, draw(worker_ids), draw(fencing_tokens), draw(times)))
    if state is StarState.WAITING:
        star.retry_at = draw(st.none() | times)
    if state in (StarState.READY, StarState.RUNNING):
        star.ready_at = draw(times)
    if state is StarState.SUCCEEDED:
        star.result = draw(results)
    if state.is_terminal:
        star.finished_at = draw(times)
        star.error = None if state is StarState.SUCCEEDED else draw(star_errors)
    return star


pauses: SearchStrategy[Pause] = st.builds(Pause, lines_of_text, lines_of_text, times)


@st.composite
def constellations(draw: st.DrawFn) -> TaskConstellation:
    """A graph whose counters and indexes agree with its stars and lines; its history need not be possible."""
    state = draw(st.sampled_from(ConstellationState))
    constellation = TaskConstellation(
        draw(constellation_ids),
        draw(names),
        draw(names),
        draw(requests),
        draw(budgets),
        created_at=draw(times),
        started_at=draw(times),
        revision=draw(counts),
        state=state,
        reason=draw(texts),
        ended_at=draw(times) if state.is_terminal else None,
        pause=draw(st.none() | pauses),
        resumed_at=draw(st.none() | times),
        seq=draw(sequence_numbers),
    )
    ids = draw(st.lists(star_ids, max_size=4, unique=True))
    for index, star_id in enumerate(ids):
        star = draw(task_stars(st.just(star_id)))
        constellation.stars[star_id] = star
        constellation.unfinished += not star.state.is_terminal
        constellation.attempts += len(star.attempts)
        for parent in draw(st.sets(st.sampled_from(ids[:index]))) if index else ():
            line = draw(star_lines(st.just(parent), st.just(star_id)))
            constellation.add_line(line)
    return constellation


# --- records

request_accepted: SearchStrategy[r.RequestAccepted] = st.builds(
    r.RequestAccepted, sequence_numbers, times, constellation_ids, names, names, requests, budgets
)
edits_applied: SearchStrategy[r.EditsApplied] = st.builds(
    r.EditsApplied,
    sequence_numbers,
    times,
    constellation_ids,
    counts,
    lines_of_text,
    _edit_tuples,
    lines_of_text,
    proposal_numbers,
)
edits_refused: SearchStrategy[r.EditsRefused] = st.builds(
    r.EditsRefused,
    sequence_numbers,
    times,
    constellation_ids,
    lines_of_text,
    st.lists(texts, max_size=3).map(tuple),
    proposal_numbers,
)
attempt_leased: SearchStrategy[r.AttemptLeased] = st.builds(
    r.AttemptLeased,
    sequence_numbers,
    times,
    constellation_ids,
    star_ids,
    attempt_numbers,
    worker_ids,
    fencing_tokens,
)
attempt_ended: SearchStrategy[r.AttemptEnded] = st.builds(
    r.AttemptEnded,
    sequence_numbers,
    times,
    constellation_ids,
    star_ids,
    attempt_numbers,
    ended_outcomes,
    star_errors,
    st.none() | times,
    st.booleans(),
)
star_finished: SearchStrategy[r.StarFinished] = st.builds(
    r.StarFinished,
    sequence_numbers,
    times,
    constellation_ids,
    star_ids,
    terminal_star_states,
    results,
    st.none() | star_errors,
    st.none() | attempt_numbers,
    st.none() | ended_outcomes,
    st.booleans(),
)
slot_released: SearchStrategy[r.SlotReleased] = st.builds(
    r.SlotReleased, sequence_numbers, times, constellation_ids, star_ids, attempt_numbers
)
constellation_paused: SearchStrategy[r.ConstellationPaused] = st.builds(
    r.ConstellationPaused, sequence_numbers, times, constellation_ids, lines_of_text, lines_of_text, st.booleans()
)
constellation_ended: SearchStrategy[r.ConstellationEnded] = st.builds(
    r.ConstellationEnded, sequence_numbers, times, constellation_ids, st.sampled_from(ConstellationState), texts
)
worker_joined: SearchStrategy[r.WorkerJoined] = st.builds(
    r.WorkerJoined, sequence_numbers, times, worker_ids, names, profiles
)
worker_left: SearchStrategy[r.WorkerLeft] = st.builds(r.WorkerLeft, sequence_numbers, times, worker_ids, texts)
worker_draining: SearchStrategy[r.WorkerDraining] = st.builds(
    r.WorkerDraining, sequence_numbers, times, worker_ids, st.booleans()
)
worker_labelled: SearchStrategy[r.WorkerLabelled] = st.builds(
    r.WorkerLabelled, sequence_numbers, times, worker_ids, labels
)
records_by_type: Final[dict[type[r.Record], SearchStrategy[r.Record]]] = {
    r.RequestAccepted: request_accepted,
    r.EditsApplied: edits_applied,
    r.EditsRefused: edits_refused,
    r.AttemptLeased: attempt_leased,
    r.AttemptEnded: attempt_ended,
    r.StarFinished: star_finished,
    r.SlotReleased: slot_released,
    r.ConstellationPaused: constellation_paused,
    r.ConstellationEnded: constellation_ended,
    r.WorkerJoined: worker_joined,
    r.WorkerLeft: worker_left,
    r.WorkerDraining: worker_draining,
    r.WorkerLabelled: worker_labelled,
}
constellation_records: SearchStrategy[r.ConstellationRecord] = st.one_of(
    request_accepted,
    edits_applied,
    edits_refused,
    attempt_leased,
    attempt_ended,
    star_finished,
    slot_released,
    constellation_paused,
    constellation_ended,
)
worker_records: SearchStrategy[r.WorkerRecord] = st.one_of(worker_joined, worker_left, worker_draining, worker_labelled)
records: SearchStrategy[r.Record] = st.one_of(constellation_records, worker_records)

# --- events

chunks: SearchStrategy[ev.Chunk] = st.builds(ev.Chunk, names, texts, counts)
held_attempts: SearchStrategy[ev.HeldAttempt] = st.builds(ev.HeldAttempt, fencing_tokens)
events: SearchStrategy[ev.Event] = st.one_of(
    st.builds(ev.RequestSubmitted, times, constellation_ids, names, names, requests, budgets, star_specs()),
    st.builds(ev.EditRequested, times, constellation_ids, lines_of_text, edit_batches),
    st.builds(ev.CancelRequested, times, constellation_ids, texts),
    st.builds(ev.RetryRequested, times, constellation_ids, lines_of_text),
    st.builds(ev.WorkerAttached, times, worker_ids, names, profiles, st.lists(held_attempts, max_size=3).map(tuple)),
    st.builds(ev.WorkerDetached, times, worker_ids, names, st.booleans(), chances),
    st.builds(ev.WorkerRenewed, times, worker_ids),
    st.builds(ev.WorkerLeaving, times, worker_ids),
    st.builds(ev.DrainRequested, times, worker_ids, st.booleans()),
    st.builds(ev.LabelRequested, times, worker_ids, st.dictionaries(names, st.none() | names, max_size=3)),
    st.builds(ev.AttemptProgressed, times, worker_ids, fencing_tokens, st.lists(chunks, max_size=3).map(tuple)),
    st.builds(ev.EditsProposed, times, worker_ids, fencing_tokens, counts, edit_batches),
    st.builds(ev.AttemptSucceeded, times, worker_ids, fencing_tokens, results, st.none() | edit_batches),
    st.builds(ev.AttemptFailed, times, worker_ids, fencing_tokens, star_errors, st.booleans(), chances),
    st.builds(ev.TimePassed, times, chances),
)
