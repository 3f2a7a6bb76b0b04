"""`asterism edit` as its users meet it: a real orchestrator, real processes, and a program in place of an editor."""

import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from asterism.orchestrator.core.edits import AddLine, AddStar, EditBatch, UpdateStar
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.line import TaskStarLine
from asterism.orchestrator.core.records import EditsApplied
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import StarKind, StarSpec, StarState
from asterism.protocol.client import AsyncClient
from tests.cli.shell import Ended, Shell, ended
from tests.orchestrator.serving import PLAN, Peer, served

REPORT = StarId("report")


@dataclass
class Scene:
    """A request of which `plan` has ended, `work` runs, and an approval and what comes behind it are pending."""

    shell: Shell
    client: AsyncClient
    address: str
    id: ConstellationId

    async def edit(self, *arguments: str, typed: str = "", **variables: str) -> Ended:
        return await self.shell.run("edit", self.id, *arguments, "--address", self.address, typed=typed, **variables)

    def editor(self, *steps: str) -> dict[str, str]:
        """A program that does with the file's `text` what each step says, one a call, the last one ever after."""
        script = self.shell.home / "editor.py"
        script.write_text(
            "import pathlib, sys\n"
            "calls = pathlib.Path(__file__).with_suffix('.calls')\n"
            "number = len(calls.read_text()) if calls.exists() else 0\n"
            "calls.write_text('x' * (number + 1))\n"
            "path = pathlib.Path(sys.argv[-1])\n"
            "text = path.read_text()\n"
            "pathlib.Path(__file__).with_name(f'opened{number}').write_text(text)\n"
            f"exec({list(steps)!r}[min(number, {len(steps) - 1})])\n"
            "path.write_text(text)\n"
        )
        return {"VISUAL": f"{sys.executable} {script}", "TMPDIR": str(self.shell.home)}

    def opened(self, number: int) -> str:
        return (self.shell.home / f"opened{number}").read_text()

    def kept(self) -> list[Path]:
        return sorted(self.shell.home.glob("asterism-*.yaml*"))

    async def revision(self) -> int:
        return (await self.client.get(self.id)).constellation.revision

    async def reasons(self) -> list[str]:
        """Of the edits so far."""
        found: list[str] = []
        seq = (await self.client.get(self.id)).constellation.seq
        async for item in self.client.watch(self.id, with_text=False):
            if isinstance(item, EditsApplied):
                found.append(f"{item.by} {item.reason}")
            if getattr(item, "seq", 0) >= seq:
                break
        return found


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    home = tmp_path / "home"
    home.mkdir()
    async with (
        served(tmp_path / "data") as running,
        AsyncClient(running.address) as client,
        Peer(running.address) as peer,
    ):
        submitted = (await client.submit(Request("plan", PLAN))).constellation
        worker = await peer.attach()
        planned = (await worker.assignment()).fencing_token
        stars = (
            StarSpec(StarId("work"), StarKind.TOOL, "noop"),
            StarSpec(StarId("ask"), StarKind.APPROVAL, "approval"),
            StarSpec(REPORT, StarKind.TOOL, "noop", title="The report"),
        )
        lines = (AddLine(TaskStarLine(parent, REPORT)) for parent in (StarId("work"), StarId("ask")))
        await client.edit(submitted, EditBatch((*(AddStar(star) for star in stars), *lines)))
        await worker.assignment()
        await worker.finish(planned)
        while not (await worker.read()).acknowledged:
            pass
        yield Scene(Shell(home), client, running.address, submitted)


async def test_the_editor_shows_what_is_pending_and_its_change_is_applied(scene: Scene) -> None:
    editor = scene.editor(
        "text = text.replace('The report', 'A report').replace('after: [work, ask]', 'after: [work]')"
    )
    result = await scene.edit("--reason", "no need to ask", typed="y\n", **editor)
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        "against revision 2: 1 changed",
        "~ report",
        '    title: "The report" -> "A report"',
        "    no longer after ask",
        f"{scene.id} is at revision 3",
    ]
    opened = scene.opened(0)
    assert "# Runs or has ended: plan SUCCEEDED, work RUNNING" in opened
    assert "  work:" not in opened
    report = (await scene.client.get(scene.id)).constellation.stars[REPORT]
    assert (report.spec.title, report.state) == ("A report", StarState.WAITING)
    assert (await scene.reasons())[-1] == "client:local no need to ask"
    assert scene.kept() == []


async def test_a_file_left_as_it_is_changes_nothing(scene: Scene) -> None:
    result = await scene.edit("--yes", **scene.editor("pass"))
    assert (result.code, result.out) == (0, "nothing changed\n")
    assert (await scene.revision(), scene.kept()) == (2, [])


async def test_what_cannot_be_read_comes_back_to_the_editor_with_the_place(scene: Scene) -> None:
    editor = scene.editor(
        "text = text.replace('kind: tool', 'kind: tol')", "text = text.replace('kind: tol', 'kind: tool')"
    )
    result = await scene.edit(typed="\n", **editor)
    assert (result.code, result.out) == (0, "nothing changed\n")
    place = re.search(r"error: (line \d+, column \d+): stars\.report\.kind", result.err)
    assert place is not None
    assert result.err.endswith("open the editor again? [Y/n] ")  # and nothing else, such as a library's warning
    assert scene.opened(1).startswith(f"#! {place[1]}: stars.report.kind")
    assert "kind: tol" in scene.opened(1)
    assert scene.kept() == []


@pytest.mark.parametrize(
    ("arguments", "typed", "code"), [(["--dry-run"], "", 0), ([], "n\n", 1), ([], "what?\n\n", 1), ([], "", 1)]
)
async def test_what_was_typed_is_kept_where_it_is_not_applied(
    scene: Scene, arguments: list[str], typed: str, code: int
) -> None:
    editor = scene.editor("text = text.replace('The report', 'My report')")
    result = await scene.edit(*arguments, typed=typed, **editor)
    assert result.code == code
    (kept,) = scene.kept()
    assert f"what you typed is in {kept}" in result.err
    assert await scene.revision() == 2
    assert (await scene.edit("--file", str(kept))).code == 0
    assert (await scene.client.get(scene.id)).constellation.stars[REPORT].spec.title == "My report"


async def test_a_person_may_go_on_editing_before_it_is_applied(scene: Scene) -> None:
    editor = scene.editor("text = text.replace('The report', 'A')", "text = text.replace('title: A', 'title: B')")
    result = await scene.edit(typed="e\ny\n", **editor)
    assert result.code == 0, result.err
    assert (await scene.client.get(scene.id)).constellation.stars[REPORT].spec.title == "B"


async def test_a_text_that_stays_wrong_is_kept(scene: Scene) -> None:
    result = await scene.edit(typed="n\n", **scene.editor("text = 'stars: ['"))
    assert result.code == 2
    assert [path.read_text() for path in scene.kept()] == ["stars: ["]


async def test_an_edit_by_somebody_else_is_told_and_the_text_goes_on_top_of_it(scene: Scene) -> None:
    editor = scene.editor("text = text.replace('program: noop', 'program: noop\\n    priority: 7')", "pass")
    process = await scene.shell.start("edit", scene.id, "--address", scene.address, has_input=True, **editor)
    assert process.stdin is not None
    assert process.stdout is not None
    while b"priority" not in (line := await process.stdout.readline()):
        assert line
    await scene.client.edit(scene.id, EditBatch((UpdateStar(REPORT, title="Theirs"),)), "meanwhile")
    out, err = await process.communicate(b"y\ny\ny\n")
    assert process.returncode == 0, err.decode()
    assert b"revision 2 is stale" in err
    assert f"{scene.id} is at revision 4" in out.decode()
    assert "#! meanwhile: revision 3 by client:local: changes report" in scene.opened(1)
    report = (await scene.client.get(scene.id)).constellation.stars[REPORT].spec
    assert (report.title, report.priority) == ("Theirs", 7)


async def test_a_star_that_begins_meanwhile_is_named_with_its_place(scene: Scene) -> None:
    shown = await scene.edit("--show")
    file = scene.shell.home / "plan.yaml"
    file.write_text(shown.out.replace("kind: approval\n", "kind: approval\n    title: Really?\n"))
    await scene.client.decide(scene.id, StarId("ask"), approve=True)
    result = await scene.edit("--file", str(file))
    assert result.code == 2
    assert re.search(r"error: line \d+, column 5: star ask: is SUCCEEDED and cannot be updated any more", result.err)
    assert await scene.revision() == 2


async def test_a_stale_file_is_refused(scene: Scene) -> None:
    shown = await scene.edit("--show")
    file = scene.shell.home / "plan.yaml"
    file.write_text(shown.out.replace("The report", "Mine"))
    await scene.client.edit(scene.id, EditBatch((UpdateStar(REPORT, title="Theirs"),)))
    result = await scene.edit("--file", str(file))
    assert (result.code, "revision 2 is stale" in result.err) == (1, True)
    assert result.err.endswith("hint: look again with `asterism edit ID --show`, and change what it prints\n")
    assert (await scene.client.get(scene.id)).constellation.stars[REPORT].spec.title == "Theirs"


async def test_programs_edit_by_a_file_and_read_json(scene: Scene) -> None:
    file = scene.shell.home / "plan.yaml"
    shown = await scene.edit("--show")
    file.write_text(shown.out + "  more: {kind: tool, program: noop, after: [report]}\n")
    dry = json.loads((await scene.edit("--file", "plan.yaml", "--dry-run", "--output", "json")).out)
    assert (dry["is_applied"], dry["added"][0]["star"], await scene.revision()) == (False, "more", 2)
    done = json.loads((await scene.edit("--file", "plan.yaml", "--output", "json")).out)
    assert (done["is_applied"], done["base_revision"], done["revision"]) == (True, 2, 3)
    again = json.loads((await scene.edit("--file", "-", "--output", "json", typed="stars: {}\n")).out)
    assert sorted(again["removed"]) == ["ask", "more", "report"]


async def test_an_ended_request_is_brought_back_by_a_new_star(scene: Scene) -> None:
    await scene.client.cancel(scene.id)
    await scene.client.wait(scene.id)
    add = "text = text.replace('stars: {}', 'stars: {last: {kind: approval, after: [plan]}}')"
    result = await scene.edit("--yes", **scene.editor(add))
    assert result.code == 0, result.err
    assert f"{scene.id} is CANCELLED: stars that you add bring it back" in result.err
    of = (await scene.client.get(scene.id)).constellation
    assert (of.state, of.stars[StarId("last")].state) == (ConstellationState.RUNNING, StarState.READY)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stars: {plan: {kind: plan, program: plan}}", "plan is SUCCEEDED"),
        ("constellation: c0\nstars: {}", "the file is of c0"),
        ("seq: 99999999\nstars: {}", "has no record 99999999"),
        ("\xff", "no UTF-8"),
        ("stars: {a: {kind: tool, program: nowhere}}", "nowhere"),
        ("x: 1\nstars: {}", "no such field"),
        ("", "nothing in it"),
    ],
)
async def test_a_file_that_makes_no_sense_is_refused_and_changes_nothing(scene: Scene, text: str, says: str) -> None:
    (scene.shell.home / "bad.yaml").write_bytes(text.encode("latin-1"))
    result = await scene.edit("--file", "bad.yaml")
    assert (result.code, result.out if "nowhere" not in says else "") == (2, "")
    assert says in result.err
    assert await scene.revision() == 2


async def test_no_editor_is_chosen_where_there_is_no_terminal(shell: Shell) -> None:
    result = await shell.run("edit", "c1", "--address", "127.0.0.1:9", VISUAL="", EDITOR=" ")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: setting $EDITOR: there is no terminal to edit in; ")
    assert "--show" in result.err
    assert "--file" in result.err


@pytest.mark.parametrize("typed", ["text.replace('The report', 'My report')", "text"])
async def test_sigterm_ends_the_editor_and_names_what_was_typed(scene: Scene, typed: str) -> None:
    editor = scene.editor(f"text = {typed}; path.write_text(text); print('open', flush=True); sys.stdin.read()")
    process = await scene.shell.start("edit", scene.id, "--address", scene.address, has_input=True, **editor)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    process.terminate()
    result = await ended(process)  # at the end of the editor, which has the same streams
    (kept,) = scene.kept()
    assert result.code == 130
    assert result.err == f"what you typed is in {kept}: asterism edit {scene.id} --file {kept}\n"


async def test_sigterm_at_a_question_names_what_was_typed(scene: Scene) -> None:
    editor = scene.editor("text = text.replace('The report', 'My report')")
    process = await scene.shell.start("edit", scene.id, "--address", scene.address, has_input=True, **editor)
    assert process.stderr is not None
    asked = await process.stderr.readuntil(b"again: ")
    process.terminate()
    result = await ended(process)
    (kept,) = scene.kept()
    assert asked.startswith(b"apply it?")
    assert (result.code, f"what you typed is in {kept}" in result.err) == (130, True)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"VISUAL": "/nowhere/editor"}, "cannot start /nowhere/editor"),
        ({"VISUAL": "'open"}, "is no command"),
        ({"VISUAL": f"{sys.executable} -c 'raise SystemExit(3)'"}, "ended with code 3"),
    ],
)
async def test_an_editor_that_does_not_work_is_named(scene: Scene, variables: dict[str, str], says: str) -> None:
    result = await scene.edit(TMPDIR=str(scene.shell.home), **variables)
    assert (result.code, says in result.err) == (2, True), result.err
    assert scene.kept() == []
