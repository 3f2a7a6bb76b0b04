"""What is built holds all that runs, and lies beside other distributions without touching them."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("agents", "orchestrator", "planner", "protocol", "store", "workers")
OTHER: Final = ROOT / "build" / "beside"
"""Where `make test` puts the wheel of openai-agents, whose top-level package is `agents`."""

pytestmark = pytest.mark.timeout(300)


def _build(kind: str, source: Path, into: Path) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(into), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout."""
    return _build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel_of_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution alone."""
    sdist = _build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # not in 3.11.3 and before
            archive.extractall(unpacked, filter="data")
        else:
            archive.extractall(unpacked)
    (source,) = unpacked.iterdir()
    return _build("wheel", source, tmp_path_factory.mktemp("wheel-of-sdist"))


def _names(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}


def _tracked() -> set[str]:
    """What version control knows in the rooms: nothing else may be shipped, and nothing of it left out."""
    listed = subprocess.run(["git", "ls-files", *ROOMS], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(listed.stdout.splitlines())


def test_the_wheel_holds_the_rooms_and_nothing_else(wheel: Path) -> None:
    packaged = {name for name in _names(wheel) if ".dist-info/" not in name}

    assert {f"asterism/{name}" for name in _tracked()} <= packaged
    assert {name.split("/")[0] for name in packaged} == {"asterism"}
    assert {name.split("/")[1] for name in packaged} == set(ROOMS)
    assert not [name for name in packaged if "__pycache__" in name or name.endswith(".pyc")]


@pytest.mark.parametrize(
    "ending",
    [
        *(f"asterism/{room}/py.typed" for room in ROOMS),
        "asterism/protocol/v1/client.proto",
        "asterism/protocol/v1/client_pb2_grpc.pyi",
        "asterism/planner/plan.schema.json",
        "asterism/workers/models/countdown/model.safetensors",
        "asterism/workers/models/countdown/tokenizer.json",
        "asterism/workers/models/apr/model.safetensors",
        "asterism/workers/engine/native/source/step.c",
        "asterism/workers/engine/native/source/native.h",
        ".dist-info/licenses/LICENSE",
    ],
)
def test_the_wheel_holds_what_is_no_python(wheel: Path, ending: str) -> None:
    assert any(name.endswith(ending) for name in _names(wheel))


def test_the_wheel_holds_the_migrations(wheel: Path) -> None:
    assert any(name.startswith("asterism/store/migrations/versions/0001") for name in _names(wheel))


def test_the_wheel_of_the_sdist_is_the_same(wheel: Path, wheel_of_sdist: Path) -> None:
    assert _names(wheel_of_sdist) == _names(wheel)


def test_it_lies_beside_openai_agents(wheel: Path, tmp_path: Path) -> None:
    others = list(OTHER.glob("openai_agents-*.whl"))
    if not others:
        pytest.skip("make test fetches openai-agents; this run did not")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(tmp_path)]
    subprocess.run([*install, str(wheel), str(others[0])], check=True)

    shared = _names(wheel) & _names(others[0])

    assert shared == set()
    program = "import importlib.util as u; print(u.find_spec('agents').origin, u.find_spec('asterism.agents').origin)"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"]
    theirs, ours = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert Path(theirs) == tmp_path / "agents" / "__init__.py"
    assert Path(ours).parts[-3:] == ("asterism", "agents", "__init__.py")
