"""Most stars of a plan differ in their names alone, and are written and read by what is remembered of the others."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.star import StarSpec
from asterism.protocol import convert
from asterism.protocol.v1 import types_pb2 as pb
from tests import strategies as s


@pytest.mark.parametrize("field", [field.name for field in fields(StarSpec)])
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(spec=s.star_specs(), other=s.star_specs(), takes_nothing=st.booleans())
def test_stars_that_differ_in_one_thing_survive_the_wire(
    field: str, spec: StarSpec, other: StarSpec, takes_nothing: bool
) -> None:
    """One after the other: what is remembered of one must not pass for another."""
    if takes_nothing:
        spec = replace(spec, inputs={})
    others: dict[str, Any] = {"reuses": StarId("z"), "replan_when": Condition.of(("result", "x"), Comparison.EQ, 1)}
    changed = replace(spec, **{field: others.get(field, getattr(other, field))})
    for each in (spec, changed, spec):
        sent = convert.star_spec_to_proto(each).SerializeToString()
        assert convert.star_spec_from_proto(pb.StarSpec.FromString(sent)) == each
