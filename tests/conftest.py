"""What holds for all tests: Hypothesis without the clock, GPU tests only with a GPU, PostgreSQL wherever it can run."""

import importlib.util
import signal
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import NoPostgres, Server, server

NO_POSTGRES = "no PostgreSQL"

# A shell that starts the tests in the background has it ignored, and all that they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; what needs one is skipped where none can be had, and the summary says so."""
    running = server()
    try:
        found = running.__enter__()
    except NoPostgres as error:
        pytest.skip(f"{NO_POSTGRES}: {error}")
    try:
        yield found
    finally:
        running.__exit__(None, None, None)


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """An empty database on it."""
    with postgres.database() as url:
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A skip is easily overlooked, and half a store that nobody tested is worth a word."""
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if NO_POSTGRES in str(report.longrepr)]
    if skipped:
        terminalreporter.section("PostgreSQL was NOT tested", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} tests were skipped. {skipped[0].longrepr[2]}")


def _has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
