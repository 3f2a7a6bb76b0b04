"""Calls of the client service that are refused whatever the orchestrator holds, as tables for the tests."""

from typing import Any, Final

from asterism.protocol.v1 import client_pb2, types_pb2
from tests.orchestrator.serving import PLAN

LONG: Final = "x" * 1001
OF_ONE: Final[dict[str, dict[str, Any]]] = {
    "GetConstellation": {},
    "Watch": {},
    "Wait": {},
    "Edit": {"batch": types_pb2.EditBatch(edits=[types_pb2.Edit(cancel_star=types_pb2.Edit.CancelStar(star="plan"))])},
    "Cancel": {},
    "Retry": {},
    "Decide": {"star": "plan"},
    "Replan": {"why": "so"},
    "Pause": {"is_paused": True},
}
"""Every call about one request, with what makes it a whole one."""
BAD: Final[list[tuple[str, dict[str, Any]]]] = [
    ("Submit", {"request_id": ""}),
    ("Submit", {"request_id": "x" * 129}),
    ("Submit", {"request_id": "line\nbreak"}),
    ("Submit", {"request": types_pb2.Request(form="novel", text=PLAN)}),
    ("Submit", {"request": types_pb2.Request(form="no/vel", text=PLAN)}),
    ("Submit", {"request": types_pb2.Request(form="plan", text=PLAN[:-1])}),
    ("Submit", {"request": types_pb2.Request(form="plan", text="x" * (1024 * 1024 + 1))}),
    ("Submit", {"request": types_pb2.Request(form="plan", text=PLAN, name="x" * 201)}),
    ("Submit", {"request": types_pb2.Request(form="plan", text=PLAN, options_json="{")}),
    ("Submit", {"budget": types_pb2.Budget(stars=0, attempts=1)}),
    ("Submit", {"budget": types_pb2.Budget(stars=1, attempts=1)}),
    ("Submit", {"budget": types_pb2.Budget(stars=9, attempts=9, seconds=float("nan"))}),
    ("ListConstellations", {"page_size": 501}),
    ("ListConstellations", {"page_token": "../etc"}),
    ("ListConstellations", {"page_token": "x" * 65}),
    ("ListConstellations", {"states": [types_pb2.CONSTELLATION_STATE_UNSPECIFIED]}),
    ("Watch", {"after_seq": 2**63}),
    ("Edit", {"reason": LONG}),
    ("Edit", {"batch": types_pb2.EditBatch()}),
    ("Edit", {"batch": types_pb2.EditBatch(edits=[types_pb2.Edit()])}),
    ("Edit", {"batch": types_pb2.EditBatch(edits=[types_pb2.Edit(cancel_star=types_pb2.Edit.CancelStar(star="a/b"))])}),
    ("Edit", {"batch": types_pb2.EditBatch(base_revision=10**6, edits=OF_ONE["Edit"]["batch"].edits)}),
    ("Cancel", {"reason": LONG}),
    ("Pause", {"reason": LONG}),
    ("Decide", {"star": "a/b"}),
    ("Decide", {"star": "plan"}),
    ("Decide", {"reason": LONG}),
    ("Decide", {"value_json": "{"}),
    ("Decide", {"value_json": "[" * 61 + "]" * 61}),
    ("Retry", {"stars": ["a/b"]}),
    ("Retry", {"stars": ["plan"] * 1001}),
    ("Retry", {"rebinds": [types_pb2.Edit.RebindInputs(star="plan")] * 2}),
    ("Replan", {"why": " "}),
    ("Replan", {"why": LONG}),
    *((method, {"constellation": name}) for method in OF_ONE for name in ("", "../etc", "x" * 65)),
]
"""Calls that fit nowhere, and so are refused before anything of theirs is looked at."""


def request_of(method: str, **fields: Any) -> Any:
    """The message that a method takes."""
    return getattr(client_pb2, f"{method}Request")(**fields)
