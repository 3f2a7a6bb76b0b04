"""Who may import whom: rooms and layers as ARCHITECTURE.md has them, and no cycle anywhere.

Imports inside functions and those for type checkers count like all others.
"""

from functools import cache
from typing import Final

import grimp
import networkx
import pytest

ROOMS: Final = ("agents", "orchestrator", "planner", "protocol", "store", "workers")
COMMANDS: Final = (
    "asterism.orchestrator.cli",
    "asterism.orchestrator.tokens",
    "asterism.orchestrator.up",
    "asterism.planner.cli",
    "asterism.protocol.cli",
    "asterism.protocol.commands",
    "asterism.workers.cli",
)
"""Layer 3: what a person types."""


@cache
def _imports() -> frozenset[tuple[str, str]]:
    """Every import between modules of ours: who imports, what is imported."""
    graph = grimp.build_graph(*(f"asterism.{room}" for room in ROOMS), cache_dir=None)
    return frozenset(
        (module, imported) for module in graph.modules for imported in graph.find_modules_directly_imported_by(module)
    )


def _place(module: str) -> tuple[int, str]:
    """The module's layer, and its room there."""
    if any(module == command or module.startswith(f"{command}.") for command in COMMANDS):
        return 3, "commands"
    if module == "asterism.orchestrator.core" or module.startswith("asterism.orchestrator.core."):
        return 0, "core"
    room = module.split(".")[1]
    match room:
        case "agents":
            return 0, room
        case "planner" | "protocol" | "store":
            return 1, room
        case _:
            return 2, room


def test_every_import_leads_to_a_lower_layer_or_stays_in_its_room() -> None:
    wrong = sorted(
        f"{module} -> {imported}"
        for module, imported in _imports()
        if _place(module) != _place(imported) and _place(module)[0] <= _place(imported)[0]
    )

    assert wrong == []


def test_no_import_cycle() -> None:
    graph = networkx.DiGraph(list(_imports()))

    cycles = [sorted(found) for found in networkx.strongly_connected_components(graph) if len(found) > 1]

    assert cycles == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_was_looked_at(room: str) -> None:
    assert any(module.startswith(f"asterism.{room}.") for module, _ in _imports())
