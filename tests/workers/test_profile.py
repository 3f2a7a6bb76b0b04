"""What a worker says of its machine, and its settings."""

from pathlib import Path
from typing import Any

import pytest

from asterism.agents.asks import ToolDescription
from asterism.orchestrator.core.errors import Misconfigured
from asterism.orchestrator.core.ids import WorkerId, is_name
from asterism.protocol.convert import worker_profile_from_proto, worker_profile_to_proto
from asterism.workers.model_sources import find_sources
from asterism.workers.profile import count_cores, describe_machine, find_gpus
from asterism.workers.settings import WorkSettings, host_name, read_credential, read_labels


def a_model(folder: Path, name: str) -> Path:
    model = folder / name
    model.mkdir()
    (model / "config.json").touch()
    (model / "model.safetensors").touch()
    return model


def settings(**changes: Any) -> WorkSettings:
    return WorkSettings(**{"join": "127.0.0.1:1", "name": WorkerId("w"), **changes})


def test_profile_of_this_machine_passes_the_orchestrators_checks() -> None:
    profile = describe_machine(
        tools=[ToolDescription(name=name, summary="") for name in ("b", "a")], labels={"zone": "lab"}
    )
    assert (profile.slots, profile.cores) == (count_cores(), count_cores())
    assert profile.tools == ("a", "b")
    assert profile.memory_bytes > 0
    assert profile.gpus == find_gpus()
    assert worker_profile_from_proto(worker_profile_to_proto(profile)) == profile


def test_slots_are_what_was_asked_for() -> None:
    assert describe_machine(slots=7).slots == 7


def test_models_are_whole_folders_and_only_the_named_ones(tmp_path: Path) -> None:
    one = a_model(tmp_path, "one")
    a_model(tmp_path, "two")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").touch()
    assert {"one", "two"} <= set(find_sources(settings(model_dir=tmp_path, models=())))
    assert "half" not in find_sources(settings(model_dir=tmp_path, models=()))
    assert find_sources(settings(model_dir=tmp_path, models=("one",))) == {"one": one}
    assert find_sources(settings(model_dir=tmp_path, models=("none",))) == {}


def test_model_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    a_model(tmp_path, "one")
    with pytest.raises(Misconfigured, match=r"no model named other; there are: .*one"):
        find_sources(settings(model_dir=tmp_path, models=("other",)))
    with pytest.raises(Misconfigured, match="no folder"):
        find_sources(settings(model_dir=tmp_path / "nowhere", models=()))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a/b"},
        {"slots": 0},
        {"slots": 5000},
        {"threads": 0},
        {"device": "tpu"},
        {"dtype": "int4"},
        {"dtype": "int8", "device": "cuda"},
        {"drain_s": float("nan")},
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match=next(iter(changes)).replace("_", "-")):
        settings(**changes)


def test_credential_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    credential = read_credential(None, tmp_path / "token")
    assert credential == "secret"
    assert "secret" not in repr(WorkSettings(join="127.0.0.1:1", name=WorkerId("w"), credential=credential))
    with pytest.raises(Misconfigured, match="token-file"):
        read_credential(None, tmp_path / "nowhere")


def test_labels_are_pairs() -> None:
    assert read_labels(["zone=lab", "rack=4=b"]) == {"zone": "lab", "rack": "4=b"}
    for wrong in ("zone", "=x", "zone=", "a\n=b"):
        with pytest.raises(Misconfigured, match="label"):
            read_labels([wrong])


def test_name_of_the_machine_can_be_a_workers() -> None:
    assert is_name(host_name())
