"""The size of the sources, the rooms' signs at the door, and what a base install loads."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("agents", "orchestrator", "planner", "protocol", "store", "workers")
MAX_LINES: Final = 500
HEAVY: Final = ("aiosqlite", "alembic", "networkx", "numpy", "pydantic", "sqlalchemy", "structlog", "torch", "yaml")


def _sources() -> list[Path]:
    found = [
        path for folder in (*ROOMS, "tests") for end in ("py", "c", "h") for path in (ROOT / folder).rglob(f"*.{end}")
    ]
    return [path for path in found if "_pb2" not in path.name]


def test_no_source_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _sources()}

    assert {str(path.relative_to(ROOT)): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_the_sign_of_a_room_has_three_lines(room: str) -> None:
    lines = (ROOT / room / "README.md").read_text(encoding="utf-8").splitlines()

    assert len(lines) == 3
    assert "import" in lines[1]
    assert lines[2].startswith("To change")


@pytest.mark.parametrize("module", ["asterism.protocol.client", "asterism.protocol.cli"])
def test_a_base_install_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert loaded == []


def test_every_command_is_there() -> None:
    commands = {entry.name: entry.load() for entry in entry_points(group="asterism.commands")}

    assert {"run", "up", "serve", "work", "submit", "watch", "graph", "doctor"} <= commands.keys()
