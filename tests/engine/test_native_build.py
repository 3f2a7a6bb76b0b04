"""The native computer is built once a machine, by many processes at once, and says why where it cannot be."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asterism.workers.engine.errors import NativeUnavailable
from asterism.workers.engine.native.build import FLAGS, build
from asterism.workers.engine.native.library import Library, is_available
from tests.engine.natively import built

FAST = tuple("-O0" if flag == "-O3" else flag for flag in FLAGS)


def test_it_is_built_once(tmp_path: Path) -> None:
    built()  # skips where there is no compiler
    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(lambda _: build(FAST, folder=tmp_path / "deep" / "er"), range(3)))
    (path,) = paths
    made = path.stat().st_mtime_ns
    assert build(FAST, folder=tmp_path / "deep" / "er").stat().st_mtime_ns == made
    assert [left.name for left in path.parent.iterdir()] == [path.name]
    Library(path)


def test_other_flags_give_another_library(tmp_path: Path) -> None:
    built()
    assert build(FAST, folder=tmp_path) != build((*FAST, "-DASTERISM_PORTABLE"), folder=tmp_path)


def test_a_machine_without_a_compiler_says_so(tmp_path: Path) -> None:
    with pytest.raises(NativeUnavailable, match="there is no C compiler 'no-such-compiler'"):
        build(compiler="no-such-compiler", folder=tmp_path)


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    built()
    with pytest.raises(NativeUnavailable, match=r"error.*ASTERISM_BROKEN"):
        build((*FAST, "-include", "ASTERISM_BROKEN.h"), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    built()
    (tmp_path / "file").touch()
    with pytest.raises(NativeUnavailable, match="the cache folder cannot be used"):
        build(FAST, folder=tmp_path / "file")


def test_a_library_that_does_not_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_bytes(b"no library")
    with pytest.raises(NativeUnavailable, match="does not load"):
        Library(tmp_path / "broken.so")


def test_is_available_gives_the_reason(tmp_path: Path) -> None:
    program = "from asterism.workers.engine.native.library import is_available; print(is_available())"
    environment = {"CC": "no-such-compiler", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert printed == "there is no C compiler 'no-such-compiler'\n"


def test_is_available_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built()
    monkeypatch.setenv("ASTERISM_CACHE_DIR", str(tmp_path))
    assert is_available() is None
