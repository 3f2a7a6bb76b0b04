"""What of the state must survive a crash, as plain values that can be compared."""

import copy
from typing import Any

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.records import Record
from asterism.orchestrator.core.state import State


def picture(state: State) -> dict[str, Any]:
    """The durable part of the state; leases' expiry, attachment and queues follow from it or are made anew."""
    return copy.deepcopy(
        {
            "constellations": state.constellations,
            "workers": {
                worker.id: (worker.instance, worker.profile, worker.labels, worker.has_left, worker.is_draining)
                for worker in state.workers.values()
            },
            "held": {worker.id: set(worker.running) for worker in state.workers.values()},
            "last_seq": state.last_seq,
            "last_fencing_token": state.last_fencing_token,
        }
    )


def replayed(records: list[Record]) -> State:
    """A state made of nothing but the journal."""
    state = State()
    for record in records:
        apply(state, record)
    return state
