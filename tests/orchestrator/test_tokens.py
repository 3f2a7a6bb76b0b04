"""Credentials beside an orchestrator that has the database."""

from pathlib import Path

import pytest

from asterism.orchestrator import tokens
from asterism.orchestrator.config import Settings
from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.errors import AlreadyExists, NotFound
from asterism.protocol.credentials import parse_credential


def test_credential_is_made_listed_and_taken_back(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert tokens.rows(settings) == []
    made = tokens.create(settings, role=Role.WORKER, name="gpu-1", days=1)
    assert parse_credential(made).role is Role.WORKER
    with pytest.raises(AlreadyExists):
        tokens.create(settings, role=Role.WORKER, name="gpu-1", days=1)
    tokens.revoke(settings, "gpu-1")
    with pytest.raises(NotFound):
        tokens.revoke(settings, "gpu-1")
    tokens.create(settings, role=Role.CLIENT, name="gpu-1", days=1)
    assert [(row["name"], row["role"], row["state"]) for row in tokens.rows(settings)] == [
        ("gpu-1", "worker", "revoked"),
        ("gpu-1", "client", "valid"),
    ]


def test_with_tls_a_credential_names_whom_to_join(tmp_path: Path) -> None:
    plain = tokens.create(Settings(data_dir=tmp_path), role=Role.CLIENT, name="a", days=1)
    pinned = tokens.create(Settings(data_dir=tmp_path, tls="self-made"), role=Role.CLIENT, name="b", days=1)
    assert parse_credential(plain).fingerprint is None
    assert len(parse_credential(pinned).fingerprint or "") == 64
