"""Paths of every kind against allowed folders: what is opened lies in one of them, whatever the path says."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.sandbox.errors import CallFailed
from asterism.workers.sandbox.files import list_files, read_file, search_files, write_file
from asterism.workers.sandbox.order import Limits, Order
from asterism.workers.sandbox.paths import find_place

STEPS = st.sampled_from(
    ["a", "b", "..", ".", "", "etc", "passwd", "out", "x" * 300, "\u00e4", "\ud800", "a\0b", "~", "*"]
)
PATHS = st.builds(lambda start, steps: start + "/".join(steps), st.sampled_from(["", "/"]), st.lists(STEPS, max_size=6))


def an_order(workspace: str, **changes: object) -> Order:
    fields = {"limits": Limits(), "workspace": workspace, "is_confined": False, **changes}
    return Order(**fields)  # type: ignore[arg-type]


@given(PATHS | st.text())
def test_a_place_is_below_a_folder_that_is_allowed(path: str) -> None:
    order = an_order("/w/here", read=("/r", "/w"), write=("/w/inner",))
    try:
        place = find_place(order, path)
    except CallFailed:
        return
    assert place.root in {"/w/here", "/r", "/w", "/w/inner"}
    assert not {"..", ".", ""} & set(place.steps)
    assert place.is_writable is (place.root in {"/w/here", "/w/inner"})


@given(PATHS, st.sampled_from([read_file, write_file, list_files, search_files]))
def test_no_path_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, path: str, function: object) -> None:
    folder = tmp_path_factory.mktemp("tree")
    outside = folder / "outside"
    inside = folder / "inside"
    for made in (outside, inside, inside / "a"):
        made.mkdir()
    (outside / "passwd").write_text("secret")
    (inside / "out").symlink_to(outside)
    (inside / "a" / "b").symlink_to(outside / "passwd")
    order = an_order(str(inside), arguments={"path": path, "text": "mine", "pattern": "secret"})
    try:
        result = function(order)  # type: ignore[operator]
    except (CallFailed, UnicodeEncodeError):
        result = {}
    assert "secret" not in str(result).replace("'pattern': 'secret'", "")
    assert (outside / "passwd").read_text() == "secret"
    assert [one.name for one in outside.iterdir()] == ["passwd"]


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    """One thread swaps a folder for a link out of the tree and back, another reads through it all the time."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "d", outside):
        folder.mkdir(parents=True)
    (inside / "d" / "f").write_text("mine")
    (outside / "f").write_text("secret")
    link = inside / "link"
    link.symlink_to(outside)
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            os.rename(inside / "d", inside / "kept")
            os.rename(link, inside / "d")
            os.rename(inside / "d", link)
            os.rename(inside / "kept", inside / "d")

    swapper = threading.Thread(target=swap)
    swapper.start()
    order = an_order(str(inside), arguments={"path": "d/f"})
    texts, codes = set(), set()
    try:
        for _ in range(3000):
            try:
                texts.add(read_file(order)["text"])
            except CallFailed as failed:
                codes.add(failed.code)
    finally:
        is_over.set()
        swapper.join()
    assert texts == {"mine"}
    assert codes <= {"not_found", "not_allowed"}
