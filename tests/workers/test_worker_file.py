"""The worker's file: what is wrong is named, what is not there is as it was, and secrets are not shown."""

from pathlib import Path

import pytest

from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.tool_report import values_of
from asterism.workers.worker_file import WorkerFile, load_worker_file

WHOLE = """
[tools]
enable = ["python", "file.read", "http.get", "command"]
commands = ["git", "/usr/bin/rg"]
read = ["{folder}"]
hosts = ["*.Example.org", "localhost:8080"]

[tools.limits]
time_s = 5

[mcp.notes]
command = "notes-server"
args = ["--quiet"]
env = {{ TOKEN = "secret" }}
effects = {{ add = "none" }}

[mcp.web]
url = "https://example.org/mcp"
headers_env = {{ Authorization = "WEB_TOKEN" }}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "worker.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    loaded = load_worker_file(write(tmp_path, WHOLE.format(folder=tmp_path)))
    tools = loaded.settings.tools
    assert tools.read == (str(tmp_path.resolve()),)
    assert tools.hosts == ("*.example.org", "localhost:8080")
    assert (tools.limits.limits().time_s, tools.limits.limits().cpu_s) == (5.0, 60)
    assert sorted(loaded.settings.mcp) == ["notes", "web"]


def test_every_setting_says_where_it_is_from_and_no_secret(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE.format(folder=tmp_path))
    values = {name: (value, source) for name, value, source in values_of(load_worker_file(path))}
    assert values["tools.limits.time_s"] == ("5.0", f"file {path}")
    assert values["tools.limits.cpu_s"] == ("60", "default")
    assert values["tools.unconfined"] == ("False", "default")
    assert values["mcp.notes.env.TOKEN"] == ("(not shown)", f"file {path}")
    assert "secret" not in str(values)
    assert all(
        source == "default" for _, _, source in values_of(load_worker_file(None, {"ASTERISM_CONFIG_HOME": "/no"}))
    )


def test_without_a_file_nothing_is_on() -> None:
    assert load_worker_file(None, {"ASTERISM_CONFIG_HOME": "/nowhere"}).settings == WorkerFile()
    assert WorkerFile().tools.enable == ()


def test_a_file_that_is_named_must_be_there_and_be_toml(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="there is no file"):
        load_worker_file(tmp_path / "none")
    with pytest.raises(Misconfigured, match="there is no file"):
        load_worker_file(None, {"ASTERISM_WORKER_CONFIG": str(tmp_path / "none")})
    with pytest.raises(Misconfigured, match="is not TOML"):
        load_worker_file(write(tmp_path, "tools = ["))


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ('[tools]\nenable = ["rm"]', "tools.enable.0"),
        ("[tools]\nunconfned = true", "tools.unconfned"),
        ('[tools]\nread = ["relative"]', "tools.read.0"),
        ('[tools]\nread = ["/"]', "tools.read.0"),
        ('[tools]\nwrite = ["/proc/self"]', "tools.write.0"),
        ('[tools]\nwrite = ["/nowhere/at/all"]', "tools.write.0"),
        ('[tools]\nenable = ["command"]', "tools"),
        ('[tools]\nenable = ["http.get"]', "tools"),
        ('[tools]\nhosts = ["http://example.org"]', "tools.hosts.0"),
        ('[tools]\nhosts = ["ex*.org"]', "tools.hosts.0"),
        ('[tools]\ncommands = ["./x"]', "tools.commands.0"),
        ("[tools.limits]\ntime_s = 0", "tools.limits.time_s"),
        ("[tools.limits]\nprocesses = 0", "tools.limits.processes"),
        ("[mcp.a]\nargs = []", "mcp.a"),
        ('[mcp.a]\ncommand = "x"\nurl = "http://x"', "mcp.a"),
        ('[mcp.a]\nurl = "ftp://x"', "mcp.a"),
        ('[mcp.a]\nurl = "http://x"\nargs = ["y"]', "mcp.a"),
        ('[mcp.a]\ncommand = "x"\npass_env = ["A=B"]', "mcp.a.pass_env.0"),
        ('[mcp.a]\ncommand = "x"\neffects = { t = "mild" }', "mcp.a.effects.t"),
        ("[other]", "other"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, setting: str) -> None:
    with pytest.raises(Misconfigured) as error:
        load_worker_file(write(tmp_path, text))
    assert error.value.setting == f"{setting} in {tmp_path / 'worker.toml'}"


def test_a_name_of_a_server_is_a_word(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"mcp: 'a\.b' is no name of a server"):
        load_worker_file(write(tmp_path, '[mcp."a.b"]\ncommand = "x"'))
