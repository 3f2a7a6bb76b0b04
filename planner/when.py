"""A condition as it may be written: as text, or as the fields of its comparisons."""

from typing import Annotated, TypeAlias

from pydantic import Discriminator, Field, StringConstraints, Tag

from asterism.orchestrator.core.condition import Condition
from asterism.orchestrator.core.values import Path
from asterism.planner.condition_text import MAX_CHARACTERS, read_condition
from asterism.planner.fields import CompareFields, ConditionFields, TermsFields, WrongAt
from asterism.planner.tokens import BadText

When: TypeAlias = Annotated[
    Annotated[
        str,
        StringConstraints(max_length=MAX_CHARACTERS),
        Tag("text"),
        Field(description='Such as `result.score >= 0.5 and state == "SUCCEEDED"`.'),
    ]
    | Annotated[ConditionFields, Tag("fields")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "fields"),
]


def to_condition(when: "str | CompareFields | TermsFields", *, at: Path) -> Condition:
    """The core's own value; raises WrongAt, with the column in a text."""
    if not isinstance(when, str):
        condition = when.to_core()
        fault = condition.find_fault()
        if fault is not None:
            raise WrongAt(at, fault)
        return condition
    try:
        return read_condition(when)
    except BadText as bad:
        raise WrongAt(at, f"column {bad.at + 1} of the condition: {bad.reason}") from None
