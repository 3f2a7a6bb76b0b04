"""Edits as JSON, the form in which programs and people write them: each a mapping of one key, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final, assert_never

from pydantic import Field

from asterism.orchestrator.core.condition import Compare, Condition
from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    EditBatch,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.star import RetryPolicy, StarSpec, Timeouts
from asterism.orchestrator.core.values import Json
from asterism.planner.document import plain
from asterism.planner.fields import (
    Capabilities,
    Fields,
    Inputs,
    Name,
    Priority,
    RetryFields,
    StarFields,
    TimeoutFields,
    Title,
    WrongAt,
    input_to_json,
    inputs_from_json,
    line_kind,
    refusal,
    validated,
)
from asterism.planner.when import When, to_condition


class _AddStar(StarFields):
    id: Name
    after: list[Name] = Field(default=[])
    """Parents by plain lines."""
    replan_when: When | None = None


class _Star(Fields):
    star: Name


class _UpdateStar(_Star):
    priority: Priority | None = None
    requires: Capabilities | None = None
    timeouts: TimeoutFields | None = None
    retry: RetryFields | None = None
    title: Title | None = None


class _Line(Fields):
    parent: Name
    child: Name


class _AddLine(_Line):
    kind: Annotated[LineKind | None, Field(strict=False)] = None
    condition: When | None = None


class _RebindInputs(_Star):
    inputs: Inputs


KINDS: Final = ("add_star", "remove_star", "update_star", "add_line", "remove_line", "rebind_inputs", "cancel_star")
"""The one key of an edit."""


def edits_from_json(items: Sequence[Mapping[str, Json]], base_revision: int | None = None) -> EditBatch:
    """The batch that `items` say; raises InvalidField with the path of what does not fit, `edits[3].add_star.kind`."""
    edits: list[Edit] = []
    for index, item in enumerate(items):
        field = f"edits[{index}]"
        try:
            edits.append(edit_from_json(plain(item, field=field)))
        except WrongAt as wrong:
            raise refusal(wrong, field=field) from None
    return EditBatch(tuple(edits), base_revision)


def edit_from_json(item: Json) -> Edit:
    """One edit; raises WrongAt."""
    if not isinstance(item, Mapping) or len(item) != 1:
        raise WrongAt((), f"an edit is a mapping of one key, which is one of {', '.join(KINDS)}")
    ((kind, body),) = item.items()
    match kind:
        case "add_star":
            star = validated(_AddStar, body, at=(kind,))
            spec = star.to_core(StarId(star.id), at=(kind,))
            if star.replan_when is not None:
                spec = replace(spec, replan_when=to_condition(star.replan_when, at=(kind, "replan_when")))
            return AddStar(spec, tuple(StarId(parent) for parent in star.after))
        case "remove_star":
            return RemoveStar(StarId(validated(_Star, body, at=(kind,)).star))
        case "update_star":
            return _update(validated(_UpdateStar, body, at=(kind,)))
        case "add_line":
            line = validated(_AddLine, body, at=(kind,))
            sort = line_kind(line.kind, has_condition=line.condition is not None, at=(kind,))
            condition = None if line.condition is None else to_condition(line.condition, at=(kind, "condition"))
            return AddLine(TaskStarLine(StarId(line.parent), StarId(line.child), sort, condition))
        case "remove_line":
            ends = validated(_Line, body, at=(kind,))
            return RemoveLine(StarId(ends.parent), StarId(ends.child))
        case "rebind_inputs":
            rebind = validated(_RebindInputs, body, at=(kind,))
            return RebindInputs(StarId(rebind.star), inputs_from_json(rebind.inputs, at=(kind, "inputs")))
        case "cancel_star":
            return CancelStar(StarId(validated(_Star, body, at=(kind,)).star))
        case _:
            raise WrongAt((), f"unknown edit {kind!r}; known are {', '.join(KINDS)}")


def _update(edit: _UpdateStar) -> UpdateStar:
    return UpdateStar(
        StarId(edit.star),
        edit.priority,
        None if edit.requires is None else frozenset(edit.requires),
        None if edit.timeouts is None else edit.timeouts.to_core(),
        None if edit.retry is None else edit.retry.to_core(),
        edit.title,
    )


def edits_to_json(batch: EditBatch) -> tuple[Mapping[str, Json], ...]:
    """The edits of a batch as JSON; `edits_from_json` gives back an equal batch."""
    return tuple(edit_to_json(edit) for edit in batch.edits)


def edit_to_json(edit: Edit) -> Mapping[str, Json]:
    """One edit as JSON; what has its default is left out."""
    match edit:
        case AddStar(spec, after):
            return {"add_star": {**star_to_json(spec), **({"after": list(after)} if after else {})}}
        case RemoveStar(star):
            return {"remove_star": {"star": star}}
        case UpdateStar():
            return {"update_star": _update_to_json(edit)}
        case AddLine(line):
            return {"add_line": line_to_json(line)}
        case RemoveLine(parent, child):
            return {"remove_line": {"parent": parent, "child": child}}
        case RebindInputs(star, inputs):
            return {"rebind_inputs": {"star": star, "inputs": {k: input_to_json(v) for k, v in inputs.items()}}}
        case CancelStar(star):
            return {"cancel_star": {"star": star}}
        case _:
            assert_never(edit)


def star_to_json(spec: StarSpec) -> Mapping[str, Json]:
    """A star as in `add_star`."""
    fields: dict[str, Json] = {"id": spec.id, "kind": spec.kind.value, "program": spec.program}
    if spec.inputs:
        fields["inputs"] = {name: input_to_json(value) for name, value in spec.inputs.items()}
    if spec.requires:
        fields["requires"] = sorted(spec.requires)
    if spec.priority:
        fields["priority"] = spec.priority
    if spec.timeouts != Timeouts():
        fields["timeouts"] = _timeouts_to_json(spec.timeouts)
    if spec.retry != RetryPolicy():
        fields["retry"] = _retry_to_json(spec.retry)
    if spec.may_edit:
        fields["may_edit"] = True
    if spec.title:
        fields["title"] = spec.title
    if spec.is_idempotent is not None:
        fields["is_idempotent"] = spec.is_idempotent
    if spec.replan_when is not None:
        fields["replan_when"] = condition_to_json(spec.replan_when)
    if spec.quorum:
        fields["quorum"] = spec.quorum
    return fields


def line_to_json(line: TaskStarLine) -> Mapping[str, Json]:
    """A line as in `add_line`."""
    fields: dict[str, Json] = {"parent": line.parent, "child": line.child}
    if line.kind is not LineKind.SUCCESS:
        fields["kind"] = line.kind.value
    if line.condition is not None:
        fields["condition"] = condition_to_json(line.condition)
    return fields


def condition_to_json(condition: Condition) -> Mapping[str, Json]:
    """As the fields of `ConditionFields`."""
    terms = [_compare_to_json(term) if isinstance(term, Compare) else term.operator.value for term in condition.terms]
    only = terms[0]
    return only if len(terms) == 1 and isinstance(only, Mapping) else {"terms": terms}


def _compare_to_json(compare: Compare) -> Mapping[str, Json]:
    fields: dict[str, Json] = {
        "path": list(compare.path),
        "is": compare.comparison.value,
        "value": compare.value,
    }
    return {**fields, "of_length": True} if compare.of_length else fields


def _update_to_json(edit: UpdateStar) -> Mapping[str, Json]:
    fields: dict[str, Json] = {"star": edit.star}
    if edit.priority is not None:
        fields["priority"] = edit.priority
    if edit.requires is not None:
        fields["requires"] = sorted(edit.requires)
    if edit.timeouts is not None:
        fields["timeouts"] = _timeouts_to_json(edit.timeouts)
    if edit.retry is not None:
        fields["retry"] = _retry_to_json(edit.retry)
    if edit.title is not None:
        fields["title"] = edit.title
    return fields


def _timeouts_to_json(timeouts: Timeouts) -> Mapping[str, Json]:
    return {
        "schedule_to_start_s": timeouts.schedule_to_start_s,
        "start_to_close_s": timeouts.start_to_close_s,
        "heartbeat_s": timeouts.heartbeat_s,
    }


def _retry_to_json(retry: RetryPolicy) -> Mapping[str, Json]:
    return {
        "max_attempts": retry.max_attempts,
        "backoff_s": retry.backoff_s,
        "multiplier": retry.multiplier,
        "max_backoff_s": retry.max_backoff_s,
        "jitter": retry.jitter,
    }
