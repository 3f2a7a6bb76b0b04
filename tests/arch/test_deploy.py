"""The examples in deploy/ are accepted by the programs that they are for."""

import tomllib
from pathlib import Path
from typing import Final

import pytest

from asterism.agents.registry import PROGRAMS as AGENT_PROGRAMS
from asterism.agents.tools import TOOLS
from asterism.orchestrator.config import load
from asterism.orchestrator.core.request import Budget, Request
from asterism.planner.check import check
from asterism.planner.programs import PROGRAMS
from asterism.workers.worker_file import load_worker_file

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
OFFERED: Final = frozenset(
    [
        *(f"program:{name}" for name in (*AGENT_PROGRAMS, *PROGRAMS)),
        *(f"tool:{name}" for name in TOOLS),
        "model:countdown",
    ]
)
"""What a worker with the shipped model offers."""


@pytest.mark.parametrize(("form", "name"), [("boards", "boards.txt"), ("plan", "plan.yaml")])
def test_the_example_requests_can_be_planned(form: str, name: str) -> None:
    text = (DEPLOY / "requests" / name).read_text(encoding="utf-8")

    check(Request(form, text, name), known_capabilities=OFFERED, budget=Budget())


def test_the_example_of_the_orchestrators_settings_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASTERISM_LISTEN", raising=False)

    loaded = load({}, file=DEPLOY / "config" / "orchestrator.toml")

    assert loaded.settings.listen == "0.0.0.0:7465"
    assert loaded.settings.tls == "self-made"


def test_the_example_of_the_clients_settings_is_toml() -> None:
    assert tomllib.loads((DEPLOY / "config" / "client.toml").read_text(encoding="utf-8"))


def test_the_example_of_the_workers_settings_is_read() -> None:
    loaded = load_worker_file(DEPLOY / "config" / "worker.toml")

    assert "python" in loaded.settings.tools.enable
    assert not loaded.settings.tools.network
