"""What holds for all tests: Hypothesis without the clock, and GPU tests only where there is a GPU."""

import importlib.util
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("asterism", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# `make mutation` has loaded its own by now.
if settings.get_current_profile_name() == "default":
    settings.load_profile("asterism")


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Skip what is marked `gpu` on a machine without one."""
    marked = [item for item in items if item.get_closest_marker("gpu") is not None]
    if marked and not _has_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no GPU here"))


def _has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
