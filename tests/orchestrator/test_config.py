"""Settings: file, environment, flags; what comes later wins, and each says where it came from."""

from pathlib import Path

import pytest

from asterism.orchestrator.cli import config, read_flags
from asterism.orchestrator.config import Settings, load
from asterism.orchestrator.core.errors import InvalidField, Misconfigured
from asterism.protocol.commands.options import Output


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ASTERISM_{name.upper()}", raising=False)
    monkeypatch.delenv("ASTERISM_CONFIG", raising=False)
    monkeypatch.setenv("ASTERISM_CONFIG_HOME", str(tmp_path / "home"))


def test_later_sources_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "asterism.toml"
    file.write_text('listen = "127.0.0.1:1"\nlease_s = 3.5\nmax_workers = 7\n')
    monkeypatch.setenv("ASTERISM_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("ASTERISM_LEASE_S", "4.5")
    loaded = load({"listen": "127.0.0.1:3", "drain_s": None}, file=file)
    assert (loaded.settings.listen, loaded.settings.lease_s) == ("127.0.0.1:3", 4.5)
    assert (loaded.settings.max_workers, loaded.settings.drain_s) == (7, 10.0)
    sources = [loaded.sources[name] for name in ("listen", "lease_s", "max_workers", "drain_s")]
    assert sources == ["flag", "environment", f"file {file}", "default"]


def test_file_in_the_users_folder_is_read_when_it_is_there(tmp_path: Path) -> None:
    assert load({}).settings.lease_s == 10.0
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "orchestrator.toml").write_text("lease_s = 2.0\n")
    assert load({}).settings.lease_s == 2.0


@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        ({"listen": "nowhere"}, "listen"),
        ({"listen": "127.0.0.1:99999"}, "listen"),
        ({"lease_s": 0.0}, "lease_s"),
        ({"retention_s": 0.5}, "retention_s"),
        ({"synchronous": "MAYBE"}, "synchronous"),
        ({"no_such": 1}, "no_such"),
        ({"store": "mysql://h/x"}, "store"),
    ],
)
def test_bad_value_is_named_with_its_source(flags: dict[str, object], setting: str) -> None:
    with pytest.raises(Misconfigured, match="from: flag") as caught:
        load(flags)
    assert caught.value.setting == setting


@pytest.mark.parametrize("words", [["lease-s", "3"], ["--lease-s"], ["--lease-s", "3", "--listen"]])
def test_words_that_are_no_flags_are_refused(words: list[str]) -> None:
    with pytest.raises(InvalidField):
        read_flags(words)


def test_named_file_must_exist_and_be_toml(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="there is no file"):
        load({}, file=tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text("listen =\n")
    with pytest.raises(Misconfigured, match="cannot read"):
        load({}, file=tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("listen", "is_loopback"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("example.org:1", False),
        ("10.0.0.1:1", False),
    ],
)
def test_loopback_is_told_from_everything_else(listen: str, is_loopback: bool) -> None:
    assert Settings(listen=listen).is_loopback is is_loopback


def test_later_source_says_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "asterism.toml"
    file.write_text('database = "file.db"\n')
    assert load({}, file=file).settings.location == Path("file.db")
    monkeypatch.setenv("ASTERISM_STORE", "postgresql://h/x")
    loaded = load({}, file=file)
    assert loaded.settings.location == "postgresql://h/x"
    assert (loaded.sources["store"], loaded.sources["database"]) == ("environment", "default")
    assert load({"database": Path("flag.db")}, file=file).settings.location == Path("flag.db")


@pytest.mark.parametrize(
    "flags", [{"database": "a.db", "store": "postgresql://h/x"}, {"synchronous": "NORMAL", "store": "postgresql://h/x"}]
)
def test_settings_that_exclude_each_other_are_refused(flags: dict[str, object]) -> None:
    with pytest.raises(Misconfigured, match="SQLite"):
        load(flags)


def test_password_of_the_store_is_shown_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://u:hidden@h/x"
    assert "hidden" not in repr(load({"store": url}).settings)
    for output in Output:
        config(["--store", url], output=output)
        assert "postgresql://u:***@h/x" in capsys.readouterr().out
    with pytest.raises(Misconfigured) as caught:
        load({"store": f"{url}:x:y", "lease_s": 0})
    assert "hidden" not in caught.value.message
