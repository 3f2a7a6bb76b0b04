"""Whatever a person types in place of the pending part: edits that the core takes come out, or a refusal in words."""

from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asterism.orchestrator.core.errors import InvalidField
from asterism.planner.pending import read_pending, write_notes, write_pending
from tests.fuzzing import fuzz, patient
from tests.planner.pending_graphs import PENDING, edited, planned

pytestmark = patient
WORDS: Final = (
    *(
        "stars:",
        "old",
        "report",
        "fetch",
        "each",
        "each.each",
        "new",
        "plan",
        "gone",
        "a~2",
        ",",
        "-",
        "{",
        "}",
        "[",
        "]",
    ),
    *("$from", "$path", "$item", "|", "!!int", "&a", "*a", "null", "1e999"),
    *("kind: tool", "kind: map", "kind: approval", "program: t", "title: x", "priority: 5", "priority: 500", ": "),
    *("after: [", "quorum: {at_least: 1, of: [old]}", "inputs: {}", "inputs: {x: {$parents: true}}", "seq: 2"),
    *("when: result.ok", "on: quorum", "on: completion", "constellation: x", "#! ", "\x00", "\u2028", "é", "\t", "'"),
    *('"', "", "\n", " ", "  "),
)


def test_any_text_gives_edits_that_hold_or_is_refused() -> None:
    base = planned()
    lines = write_pending(base).splitlines(keepends=True)
    changed = 0

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nonlocal changed
        text = list(lines)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(text) - 1))
            match data.draw(st.sampled_from(["drop", "copy", "cut", "put", "word"])):
                case "drop" if len(text) > 1:
                    del text[at]
                case "copy":
                    text.insert(data.draw(st.integers(0, len(text))), text[at])
                case "cut":
                    text[at] = text[at][: data.draw(st.integers(0, len(text[at])))]
                case "put":
                    text[at] += data.draw(st.sampled_from(WORDS))
                case _:
                    words = text[at].split(" ")
                    words[data.draw(st.integers(0, len(words) - 1))] = data.draw(st.sampled_from(WORDS))
                    text[at] = " ".join(words)
        typed = "".join(text)
        try:
            edits = read_pending(typed).edits_of(base)
        except InvalidField as error:
            noted = write_notes(typed, [error.message])
            assert noted.startswith("#! ")
            return
        after = edited(base, edits) if edits else base
        changed += bool(edits)
        pending = {star for star, of in after.stars.items() if of.state in PENDING}
        assert after.stars.keys() - pending == {"fetch"}
        assert read_pending(write_pending(after)).edits_of(after) == ()
        assert read_pending(typed).edits_of(after) == ()

    fuzz(check)
    assert changed
