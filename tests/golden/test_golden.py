"""Every story in this folder tells itself again and must come out as it is written.

After a change that is meant: `python -m tests.golden.test_golden` writes the stories anew; review their diff.
"""

from pathlib import Path

import pytest

from tests.golden.teller import Teller

STORIES = sorted(Path(__file__).parent.glob("*.story"))


def retell(text: str) -> str:
    teller, out = Teller(), []
    for line in text.splitlines():
        if line.startswith(">"):
            out.append(line)
            out.extend(f"    {said}" for said in teller.tell(line))
        elif not line.startswith("    "):
            out.append(line)
    return "\n".join(out) + "\n"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_story_comes_out_as_written(path: Path) -> None:
    assert retell(path.read_text()) == path.read_text()


if __name__ == "__main__":
    for story in STORIES:
        story.write_text(retell(story.read_text()))
