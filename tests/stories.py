"""How many stories Hypothesis tells of each state machine, and how long they are."""

import os
from typing import Final

from hypothesis import HealthCheck, settings

STEPS: Final = 50
TOLD: Final = os.environ.get("ASTERISM_STORIES")
"""Stories of each machine: `make soak-stories` takes 500, `make test` fewer."""


def stories(usual: int) -> settings:
    """As many as the environment says, or `usual`; few where `make mutation` asks of every change of the core whether a
    test notices it, since the other tests notice most."""
    examples = usual if TOLD is None else int(TOLD)
    if settings.get_current_profile_name() == "mutation":
        examples = 25
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        print_blob=True,
    )
