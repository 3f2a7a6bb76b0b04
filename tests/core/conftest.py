"""The order of the core's tests: the claims first, the stories that Hypothesis makes up last, for they take longest."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "test_machine_properties" in item.nodeid)
