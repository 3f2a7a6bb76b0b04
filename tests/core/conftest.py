"""The order of the core's tests: the claims first, the stories that Hypothesis makes up last, for they take longest."""

import gc

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "test_machine_properties" in item.nodeid)


@pytest.fixture(autouse=True, scope="module")
def _collected() -> None:
    """Leave no garbage of other tests to Hypothesis, which parses the story's source.

    CPython 3.11 counts the depth of a parse in one place: a finalizer that runs in the middle, and of which a traceback
    is printed, parses too, and the outer parse ends in a SystemError (seen once, on 3.11.7).
    """
    gc.collect()
