"""Credentials as text."""

import hashlib

import pytest

from asterism.orchestrator.core.credential import Role
from asterism.orchestrator.core.errors import Unauthenticated
from asterism.protocol.credentials import new_credential, parse_credential

FINGERPRINT = hashlib.sha256(b"certificate").hexdigest()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("fingerprint", [None, FINGERPRINT])
def test_text_of_a_credential_reads_back(role: Role, fingerprint: str | None) -> None:
    credential = new_credential(role, fingerprint)
    assert parse_credential(credential.text) == credential


def test_fingerprint_is_no_part_of_the_secret_and_is_not_sent() -> None:
    joined = new_credential(Role.WORKER, FINGERPRINT)
    plain = parse_credential(joined.bearer)
    assert plain.secret_sha256 == joined.secret_sha256
    assert FINGERPRINT not in joined.metadata[0][1]


def test_secret_is_not_printed() -> None:
    credential = new_credential(Role.ADMIN)
    assert credential.secret not in repr(credential)


@pytest.mark.parametrize("text", ["", "secret", "asterism_root_" + "a" * 43, "asterism_client_" + "a" * 42])
def test_malformed_credential_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        parse_credential(text)
    assert not text or text not in str(refused.value)


def test_two_credentials_differ() -> None:
    assert new_credential(Role.CLIENT) != new_credential(Role.CLIENT)
