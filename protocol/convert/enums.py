"""One table for each enum of the core; a value that is missing here cannot travel, and a test looks for one."""

from asterism.orchestrator.core.condition import Comparison, Operator
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.profile import Effect
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import AttemptOutcome, StarKind, StarState, Telling
from asterism.protocol.v1 import types_pb2 as pb

STAR_STATES = {
    StarState.WAITING: pb.STAR_STATE_WAITING,
    StarState.READY: pb.STAR_STATE_READY,
    StarState.RUNNING: pb.STAR_STATE_RUNNING,
    StarState.SUCCEEDED: pb.STAR_STATE_SUCCEEDED,
    StarState.FAILED: pb.STAR_STATE_FAILED,
    StarState.CANCELLED: pb.STAR_STATE_CANCELLED,
}
STAR_STATES_BACK = {value: key for key, value in STAR_STATES.items()}

STAR_KINDS = {
    StarKind.PLAN: pb.STAR_KIND_PLAN,
    StarKind.REASON: pb.STAR_KIND_REASON,
    StarKind.TOOL: pb.STAR_KIND_TOOL,
    StarKind.GATHER: pb.STAR_KIND_GATHER,
    StarKind.AGENT: pb.STAR_KIND_AGENT,
    StarKind.APPROVAL: pb.STAR_KIND_APPROVAL,
}
STAR_KINDS_BACK = {value: key for key, value in STAR_KINDS.items()}

CONSTELLATION_STATES = {
    ConstellationState.RUNNING: pb.CONSTELLATION_STATE_RUNNING,
    ConstellationState.SUCCEEDED: pb.CONSTELLATION_STATE_SUCCEEDED,
    ConstellationState.FAILED: pb.CONSTELLATION_STATE_FAILED,
    ConstellationState.CANCELLED: pb.CONSTELLATION_STATE_CANCELLED,
}
CONSTELLATION_STATES_BACK = {value: key for key, value in CONSTELLATION_STATES.items()}

OUTCOMES = {
    AttemptOutcome.SUCCEEDED: pb.ATTEMPT_OUTCOME_SUCCEEDED,
    AttemptOutcome.FAILED: pb.ATTEMPT_OUTCOME_FAILED,
    AttemptOutcome.TIMED_OUT: pb.ATTEMPT_OUTCOME_TIMED_OUT,
    AttemptOutcome.LOST: pb.ATTEMPT_OUTCOME_LOST,
    AttemptOutcome.CANCELLED: pb.ATTEMPT_OUTCOME_CANCELLED,
}
OUTCOMES_BACK = {value: key for key, value in OUTCOMES.items()}

EFFECTS = {
    Effect.PURE: pb.EFFECT_PURE,
    Effect.IDEMPOTENT: pb.EFFECT_IDEMPOTENT,
    Effect.NONE: pb.EFFECT_NONE,
}
EFFECTS_BACK = {value: key for key, value in EFFECTS.items()}

LINE_KINDS = {
    LineKind.SUCCESS: pb.LINE_KIND_SUCCESS,
    LineKind.COMPLETION: pb.LINE_KIND_COMPLETION,
    LineKind.CONDITION: pb.LINE_KIND_CONDITION,
    LineKind.QUORUM: pb.LINE_KIND_QUORUM,
    LineKind.GUARD: pb.LINE_KIND_GUARD,
    LineKind.STREAM: pb.LINE_KIND_STREAM,
}
LINE_KINDS_BACK = {value: key for key, value in LINE_KINDS.items()}

TELLINGS = {
    Telling.REQUEST: pb.Input.TELLING_REQUEST,
    Telling.GRAPH: pb.Input.TELLING_GRAPH,
    Telling.OFFERS: pb.Input.TELLING_OFFERS,
}
TELLINGS_BACK = {value: key for key, value in TELLINGS.items()}

COMPARISONS = {
    Comparison.EQ: pb.COMPARISON_EQ,
    Comparison.NE: pb.COMPARISON_NE,
    Comparison.LT: pb.COMPARISON_LT,
    Comparison.LE: pb.COMPARISON_LE,
    Comparison.GT: pb.COMPARISON_GT,
    Comparison.GE: pb.COMPARISON_GE,
    Comparison.IN: pb.COMPARISON_IN,
    Comparison.CONTAINS: pb.COMPARISON_CONTAINS,
    Comparison.EXISTS: pb.COMPARISON_EXISTS,
    Comparison.MISSING: pb.COMPARISON_MISSING,
}
COMPARISONS_BACK = {value: key for key, value in COMPARISONS.items()}

OPERATORS = {
    Operator.AND: pb.Condition.OPERATOR_AND,
    Operator.OR: pb.Condition.OPERATOR_OR,
    Operator.NOT: pb.Condition.OPERATOR_NOT,
}
OPERATORS_BACK = {value: key for key, value in OPERATORS.items()}
