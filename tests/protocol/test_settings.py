"""Where the client's settings come from."""

import sys
from pathlib import Path

import pytest

from asterism.orchestrator.core.errors import Misconfigured
from asterism.protocol.client import AsyncClient
from asterism.protocol.settings import ClientSettings, Setting, Source, config_file, load_settings


def written(folder: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    """An environment whose config folder holds a file with that text."""
    file = folder / "client.toml"
    file.write_text(text)
    file.chmod(mode)
    return {"ASTERISM_CONFIG_HOME": str(folder)}


def test_without_anything_the_address_is_loopback(tmp_path: Path) -> None:
    settings = load_settings(environment={"ASTERISM_CONFIG_HOME": str(tmp_path / "none")})
    assert settings == ClientSettings(Setting("127.0.0.1:7465", Source.DEFAULT))
    assert settings.address.is_default


def test_flag_wins_over_environment_over_file(tmp_path: Path) -> None:
    file = str(tmp_path / "client.toml")
    environment = written(tmp_path, 'address = "file:1"\ntoken = "file-token"\nca_file = "file.pem"')
    settings = load_settings(environment=environment)
    assert settings.address == Setting("file:1", Source.FILE, file)
    assert settings.token == Setting("file-token", Source.FILE, file)
    assert settings.ca_path == Path("file.pem")
    environment |= {"ASTERISM_ADDRESS": "env:1", "ASTERISM_TOKEN": "env-token", "ASTERISM_CA_FILE": "env.pem"}
    settings = load_settings(environment=environment)
    assert settings.address == Setting("env:1", Source.ENVIRONMENT, "ASTERISM_ADDRESS")
    assert settings.token == Setting("env-token", Source.ENVIRONMENT, "ASTERISM_TOKEN")
    settings = load_settings("flag:1", "flag-token", Path("flag.pem"), environment=environment)
    assert settings.address == Setting("flag:1", Source.FLAG)
    assert settings.token == Setting("flag-token", Source.FLAG)
    assert settings.ca_file == Setting("flag.pem", Source.FLAG)


def test_token_file_of_the_environment_wins_over_the_token_of_the_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from-a-file\n")
    secret.chmod(0o600)
    environment = written(tmp_path, 'token = "file-token"') | {"ASTERISM_TOKEN_FILE": str(secret)}
    settings = load_settings(environment=environment)
    assert settings.token == Setting("from-a-file", Source.ENVIRONMENT, str(secret))
    assert settings.warnings == ()


@pytest.mark.skipif(sys.platform == "win32", reason="no file modes")
def test_secret_that_others_may_read_is_warned_of(tmp_path: Path) -> None:
    settings = load_settings(environment=written(tmp_path, 'token = "t"', 0o644))
    assert [warning.startswith(str(tmp_path / "client.toml")) for warning in settings.warnings] == [True]
    assert load_settings(environment=written(tmp_path, 'address = "a:1"', 0o644)).warnings == ()


@pytest.mark.parametrize("text", ["address = ", "address = 3", 'adress = "a:1"'])
def test_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Misconfigured, match=r"client\.toml"):
        load_settings(environment=written(tmp_path, text))


def test_token_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    environment = {"ASTERISM_CONFIG_HOME": str(tmp_path), "ASTERISM_TOKEN_FILE": str(tmp_path / "none")}
    with pytest.raises(Misconfigured, match="cannot read"):
        load_settings(environment=environment)


def test_secret_is_not_printed(tmp_path: Path) -> None:
    assert "hidden" not in repr(load_settings(token="hidden", environment={"ASTERISM_CONFIG_HOME": str(tmp_path)}))


@pytest.mark.skipif(sys.platform != "linux", reason="the convention of Linux")
def test_config_folder_follows_the_convention(tmp_path: Path) -> None:
    assert config_file({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "asterism" / "client.toml"
    assert config_file({"XDG_CONFIG_HOME": "relative"}) == Path.home() / ".config" / "asterism" / "client.toml"


def test_client_is_made_of_settings() -> None:
    assert AsyncClient.from_settings(ClientSettings(Setting("h:1", Source.FLAG))).address == "h:1"
