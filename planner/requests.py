"""The input `request` of the planning programs."""

from collections.abc import Mapping
from typing import Any

from asterism.agents.asks import Json, ProgramFailed
from asterism.orchestrator.core.request import Request
from asterism.planner.fields import Fields, WrongAt, refusal, validated


class _RequestFields(Fields):
    form: str
    text: str
    name: str = ""
    options: Any = None


def read_request(inputs: Mapping[str, Json]) -> Request:
    """The request; fails the star where there is none."""
    try:
        fields = validated(_RequestFields, inputs.get("request"), at=("request",))
    except WrongAt as wrong:
        raise plan_refused(refusal(wrong, field="inputs").message) from None
    return Request(fields.form, fields.text, fields.name, fields.options)


def plan_refused(reasons: str) -> ProgramFailed:
    """The same request is refused in every attempt."""
    return ProgramFailed("plan_refused", reasons, retryable=False)
