"""Credentials at the gate, on a clock that a test moves."""

import pytest

from asterism.orchestrator.clock import ManualClock
from asterism.orchestrator.core.credential import Role, StoredCredential
from asterism.orchestrator.core.errors import Unauthenticated
from asterism.orchestrator.services.auth import RECHECK_S, TRUST_S, Gate
from asterism.protocol.credentials import Credential, new_credential
from asterism.store.memory import MemoryStore


async def _granted(store: MemoryStore, *, ends_at: float = 1e9) -> Credential:
    made = new_credential(Role.WORKER)
    await store.add_credential(StoredCredential("gpu-1", Role.WORKER, made.secret_sha256, 0.0, ends_at))
    return made


async def test_revoked_credential_works_no_longer_than_a_look_up_is_trusted() -> None:
    store, clock = MemoryStore(), ManualClock(100.0)
    gate = Gate(store, clock, is_required=True)
    made = await _granted(store)
    assert (await gate.identify(made.metadata)).name == "gpu-1"
    await store.revoke_credential("gpu-1", clock.now())
    clock.advance(TRUST_S)
    with pytest.raises(Unauthenticated, match="revoked"):
        await gate.identify(made.metadata)


async def test_credential_that_ends_is_refused_at_once() -> None:
    store, clock = MemoryStore(), ManualClock(100.0)
    gate = Gate(store, clock, is_required=True)
    made = await _granted(store, ends_at=101.0)
    await gate.identify(made.metadata)
    clock.advance(1.0)
    with pytest.raises(Unauthenticated):
        await gate.identify(made.metadata)


async def test_long_stream_ends_soon_after_its_credential_was_revoked() -> None:
    store, clock = MemoryStore(), ManualClock(100.0)
    gate = Gate(store, clock, is_required=True)
    made = await _granted(store)
    renewal = gate.renewal(await gate.identify(made.metadata))
    clock.advance(RECHECK_S / 2)
    await renewal.check()
    await store.revoke_credential("gpu-1", clock.now())
    clock.advance(RECHECK_S)
    with pytest.raises(Unauthenticated):
        await renewal.check()


async def test_stream_without_a_credential_where_none_is_asked_for_goes_on() -> None:
    clock = ManualClock(100.0)
    gate = Gate(MemoryStore(), clock, is_required=False)
    renewal = gate.renewal(await gate.identify(()))
    clock.advance(10 * RECHECK_S)
    await renewal.check()
