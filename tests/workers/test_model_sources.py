"""The worker's file, the models that it names, and what `asterism doctor` says of them."""

import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.orchestrator.core.errors import Misconfigured, Unreachable
from asterism.orchestrator.core.ids import WorkerId
from asterism.workers.engine.http_server import serving
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import GenerationRequest
from asterism.workers.model_check import check_models
from asterism.workers.model_settings import ModelTable, PriceTable
from asterism.workers.model_sources import find_sources, open_engines, read_key, server_engine, shipped_models
from asterism.workers.settings import WorkSettings
from asterism.workers.worker_file import MAX_FILE_BYTES, WorkerFile, load_worker_file

URL = "http://127.0.0.1:9/v1"
FILE = """
[models.writer]
url = "https://llm.example/v1"
model = "large-instruct"
api = "chat"
server = "vllm"
schemas = true
key_env = "LLM_KEY"
context_tokens = 128000
max_sequences = 8
max_tokens = 4096
retries = 2
token_s = 30
price = { prompt = 2.5, cached = 1.25, answer = 10.0 }

[models.small]
folder = "/srv/models/small"

[serve_models]
listen = "127.0.0.1:8000"
token_file = "/etc/asterism/token"
"""


def read_worker_file(named: Path | None = None, environment: Mapping[str, str] = os.environ) -> WorkerFile:
    """What the file says."""
    return load_worker_file(named, environment).settings


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "worker.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def settings(tables: dict[str, ModelTable], *models: str) -> WorkSettings:
    return WorkSettings(join="127.0.0.1:1", name=WorkerId("w"), file=WorkerFile(models=tables), models=models)


def test_the_file_is_read(tmp_path: Path) -> None:
    file = read_worker_file(written(tmp_path, FILE))
    writer = file.models["writer"]
    assert (writer.url, writer.model, writer.api, writer.server) == (
        "https://llm.example/v1",
        "large-instruct",
        "chat",
        "vllm",
    )
    assert (writer.retries, writer.token_s, writer.first_token_s) == (2, 30, 600)
    assert writer.price == PriceTable(prompt=2.5, cached=1.25, answer=10.0)
    assert file.models["small"].folder == Path("/srv/models/small")
    assert file.serve_models is not None
    assert file.serve_models.listen == "127.0.0.1:8000"


def test_the_example_is_one(tmp_path: Path) -> None:
    example = (Path(__file__).parents[2] / "deploy" / "config" / "worker.toml").read_text()
    assert read_worker_file(written(tmp_path, example)).models["writer"].price.answer == 10.0
    # Also with what is commented out.
    whole = re.sub(r"(?m)^# (?=[a-z_]+ = |\[)", "", example)
    file = read_worker_file(written(tmp_path, whole))
    assert set(file.models) == {"writer", "small"}
    assert file.serve_models is not None


def test_the_users_file_need_not_be_there_and_a_named_one_must(tmp_path: Path) -> None:
    home = {"ASTERISM_CONFIG_HOME": str(tmp_path)}
    assert read_worker_file(environment=home) == WorkerFile()
    with pytest.raises(Misconfigured, match="there is no file"):
        read_worker_file(tmp_path / "worker.toml")
    with pytest.raises(Misconfigured, match="there is no file"):
        read_worker_file(environment={**home, "ASTERISM_WORKER_CONFIG": str(tmp_path / "other.toml")})
    written(tmp_path, FILE)
    assert set(read_worker_file(environment=home).models) == {"writer", "small"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[models.a]\n", "models.a in"),
        ("[models.a]\nurl='http://x/v1'\nfolder='y'\n", "models.a in"),
        ("[models.a]\nfolder='y'\nmodel='z'\n", "takes no model"),
        ("[models.a]\nurl='file:///etc/passwd'\n", "http://"),
        ("[models.a]\nurl='http://x/v1'\nkey='secret'\n", "models.a.key in"),
        ("[models.a]\nurl='http://x/v1'\nkey_env='A'\nkey_file='b'\n", "not both"),
        ("[models.a]\nurl='http://x/v1'\napi='both'\n", "models.a.api in"),
        ("[models.a]\nurl='http://x/v1'\nretries=-1\n", "models.a.retries in"),
        ("[models.a]\nurl='http://x/v1'\ntoken_s=0\n", "models.a.token_s in"),
        ("[models.a]\nurl='http://x/v1'\nprice={prompt=nan}\n", "models.a.price.prompt in"),
        ("[models.a]\nurl='http://x/v1'\ncontext_tokens=0\n", "models.a.context_tokens in"),
        ("[models.'a b']\nurl='http://x/v1'\n", "is no name"),
        ("models = 3\n", "models in"),
        ("[serve_models]\n", "serve_models.listen in"),
        ("[other]\n", "other in"),
        ("x", "is not TOML"),
        (b"\xff", "is not TOML"),
        ("a = " + "[" * 50_000, "is not TOML"),
        (b"#" * (MAX_FILE_BYTES + 1), "more than"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str | bytes, key: str) -> None:
    with pytest.raises(Misconfigured, match=key) as refused:
        read_worker_file(written(tmp_path, text))
    assert "secret" not in refused.value.message


@given(st.text(max_size=60) | st.sampled_from(FILE.splitlines()).map(lambda line: f"[models.a]\n{line}\n{line}x"))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), text.encode("utf-8", "surrogatepass"))
    try:
        file = read_worker_file(path)
    except Misconfigured:
        return
    assert isinstance(file, WorkerFile)


def test_a_key_comes_from_the_environment_or_a_file_and_is_not_shown(tmp_path: Path) -> None:
    from_environment = ModelTable(url=URL, key_env="LLM_KEY")
    assert read_key("a", from_environment, {"LLM_KEY": " secret\n"}) == "secret"
    with pytest.raises(Misconfigured, match="the environment has no LLM_KEY"):
        read_key("a", from_environment, {})
    path = tmp_path / "key"
    from_file = ModelTable(url=URL, key_file=path)
    with pytest.raises(Misconfigured, match="cannot read"):
        read_key("a", from_file)
    path.write_text("secret\n")
    assert read_key("a", from_file) == "secret"
    assert "secret" not in repr(server_engine("a", from_file).profile)
    for wrong in (b"", b"secret\nsecret", b"\xffsecret", b"secret secret"):
        path.write_bytes(wrong)
        with pytest.raises(Misconfigured) as refused:
            read_key("a", from_file)
        assert "secret" not in refused.value.message
    assert read_key("a", ModelTable(url=URL)) is None


def test_servers_and_folders_are_offered_beside_those_that_are_shipped(tmp_path: Path) -> None:
    folder = tmp_path / "small-v2"
    folder.mkdir()
    (folder / "config.json").touch()
    (folder / "model.safetensors").touch()
    tables = {"writer": ModelTable(url=URL), "small": ModelTable(folder=folder), "apr": ModelTable(url=URL)}
    found = find_sources(settings(tables))
    assert found["writer"] is tables["writer"]
    assert found["apr"] is tables["apr"]  # in the place of the shipped one
    assert found["small"] == folder
    assert found["countdown"] == shipped_models() / "countdown"
    assert find_sources(settings(tables, "writer")) == {"writer": tables["writer"]}
    assert find_sources(settings(tables, "none")) == {}
    with pytest.raises(Misconfigured, match=r"there are: apr, countdown, small, writer"):
        find_sources(settings(tables, "other"))
    with pytest.raises(Misconfigured, match=r"models.small.folder"):
        find_sources(settings({"small": ModelTable(folder=tmp_path)}))


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """A server of one model that wants a key."""
    behind = ScriptedEngine(lambda request: " fine", model="large", context_tokens=99)
    await behind.start()
    async with serving({"large": behind}, credential="secret") as url:
        yield url
    await behind.close()


async def test_an_engine_asks_the_server_with_the_key(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_KEY", "secret")
    tables = {"writer": ModelTable(url=server, key_env="LLM_KEY", price=PriceTable(prompt=1e6, answer=1e6))}
    async with open_engines(settings(tables, "writer")) as engines:
        (engine,) = engines.values()
        assert (engine.profile.model, engine.profile.context_tokens) == ("large", 99)
        events = [event async for event in engine.generate([GenerationRequest(id="a", prompt="go", max_tokens=9)])]
        assert events[-1].cost == 2.0  # type: ignore[union-attr]
    monkeypatch.setenv("LLM_KEY", "wrong")
    with pytest.raises(Unreachable) as refused:
        async with open_engines(settings(tables, "writer")):
            pass
    assert "wrong" not in refused.value.message


async def test_doctor_says_of_each_model_whether_it_is_there(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_KEY", "secret")
    findings = await check_models(
        {
            "fine": ModelTable(url=server, key_env="LLM_KEY"),
            "locked": ModelTable(url=server),
            "unset": ModelTable(url=server, key_env="NO_SUCH_KEY"),
            "renamed": ModelTable(url=server, key_env="LLM_KEY", model="small"),
            "gone": ModelTable(url=URL),
            "folder": ModelTable(folder=tmp_path / "nothing"),
            "shipped": ModelTable(folder=shipped_models() / "countdown"),
        }
    )
    levels = {finding["subject"]: finding["level"] for finding in findings}
    assert levels == {
        "models.fine": "ok",
        "models.locked": "fail",
        "models.unset": "fail",
        "models.renamed": "fail",
        "models.gone": "fail",
        "models.folder": "fail",
        "models.shipped": "ok",
    }
    assert all(finding["advice"] for finding in findings if finding["level"] == "fail")
    assert "99 tokens" in findings[0]["found"]
    assert "secret" not in str(findings)
