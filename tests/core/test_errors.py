"""Each error carries its fields and a message that says what is wrong."""

import pytest

from asterism.orchestrator.core.errors import (
    AlreadyExists,
    AsterismError,
    DataLoss,
    Forbidden,
    InvalidEdit,
    InvalidField,
    Misconfigured,
    NotFound,
    Overloaded,
    StaleRevision,
    Unauthenticated,
    Unreachable,
    WrongState,
)


@pytest.mark.parametrize(
    ("error", "message", "fields"),
    [
        (InvalidField("a.b", "too long"), "a.b: too long", {"field": "a.b", "reason": "too long"}),
        (InvalidEdit("x", "runs"), "star x: runs", {"field": "star x", "reason": "runs", "star": "x"}),
        (
            StaleRevision(1, 3, ["x", "y"]),
            "revision 1 is stale: it is 3 now and touched x, y",
            {"base": 1, "current": 3, "stars": ("x", "y")},
        ),
        (NotFound("request", "c"), "no request named 'c'", {"kind": "request", "identifier": "c"}),
        (AlreadyExists("worker", "w"), "worker 'w' exists already", {"kind": "worker", "identifier": "w"}),
        (
            AlreadyExists("worker", "w", "it runs"),
            "worker 'w' exists already: it runs",
            {"kind": "worker", "identifier": "w"},
        ),
        (
            DataLoss("artifact", "a", "it is empty"),
            "artifact 'a' is damaged: it is empty",
            {"kind": "artifact", "identifier": "a", "reason": "it is empty"},
        ),
        (
            WrongState("request", "c", "FAILED", "it ended"),
            "request 'c' is FAILED: it ended",
            {"kind": "request", "identifier": "c", "state": "FAILED", "reason": "it ended"},
        ),
        (Overloaded("busy", 1.5), "busy; try again in 1.5 s", {"reason": "busy", "retry_after_s": 1.5}),
        (Unauthenticated("who?"), "who?", {}),
        (Forbidden("client", "drain"), "a client may not drain", {"role": "client", "action": "drain"}),
        (Unreachable("h:1", "refused"), "cannot reach h:1: refused", {"address": "h:1", "reason": "refused"}),
        (Misconfigured("tls", "give both"), "setting tls: give both", {"setting": "tls", "reason": "give both"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_says_what_is_wrong_in_words_and_fields(
    error: AsterismError, message: str, fields: dict[str, object]
) -> None:
    assert error.message == str(error) == message
    assert {name: getattr(error, name) for name in fields} == fields
