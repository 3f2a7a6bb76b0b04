"""Which tools a worker offers, by its settings and by what its machine can promise."""

from pathlib import Path

import pytest

from asterism.workers.sandbox.confinement import Confinement, find_confinement
from asterism.workers.tool_providers import may_run, open_tools
from asterism.workers.tool_settings import ToolSettings
from tests.cli.shell import Shell

LOOSE = Confinement(is_confined=False, holds="no namespaces here")


async def test_only_pure_tools_are_on_by_themselves() -> None:
    async with open_tools(ToolSettings(), at_once=1) as tools:
        assert [tool.name for tool in tools.descriptions] == ["countdown.search", "noop"]
        assert {tool.effect.value for tool in tools.descriptions} == {"pure"}


def test_what_cannot_be_confined_is_not_offered_unless_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert not may_run(ToolSettings(enable=("python",)), LOOSE)
    said = capsys.readouterr()
    assert "NOT OFFERED" in said.out + said.err
    assert may_run(ToolSettings(enable=("python",), unconfined=True), LOOSE)
    said = capsys.readouterr()
    assert "UNCONFINED" in said.out + said.err
    assert "no namespaces here" in said.out + said.err


async def test_enabled_tools_are_offered_where_they_hold() -> None:
    found = await find_confinement()
    settings = ToolSettings(enable=("file.read", "python"))
    async with open_tools(settings, at_once=1) as tools:
        names = {tool.name for tool in tools.descriptions}
    assert ({"file.read", "python"} <= names) is found.is_confined


async def test_the_command_shows_tools_and_settings(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    file = tmp_path / "worker.toml"
    file.write_text('[tools]\nenable = ["python"]\nunconfined = true\n')
    shown = await shell.run("tools", "--config", str(file))
    assert shown.code == 0, shown.err
    assert "python" in shown.out
    assert "confined" in shown.out
    settings = await shell.run("tools", "--settings", "--config", str(file))
    assert f"file {file}" in settings.out
    assert "tools.limits.cpu_s" in settings.out
