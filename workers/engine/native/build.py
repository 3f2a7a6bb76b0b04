"""Compiles the sources beside it for this machine, once, into the user's cache folder."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asterism.protocol.folders import cache_folder
from asterism.workers.engine.errors import NativeUnavailable

SOURCES: Final = Path(__file__).parent / "source"
FLAGS: Final = (
    "-std=c11",
    "-O3",
    "-march=native",
    # A product and a sum are fused where the source says so and nowhere else: results do not depend on a loop's shape.
    "-ffp-contract=off",
    # These change no result; they let loops with rintf and comparisons become vectors.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
    "-pthread",
)
COMPILE_TIMEOUT_S: Final = 300


def build(flags: Sequence[str] = FLAGS, *, compiler: str | None = None, folder: Path | None = None) -> Path:
    """The compiled library; compiles it unless the folder holds what these sources give here.

    `compiler` is CC's or `cc`, `folder` is `native` in the user's cache folder. Processes that build at the same time
    do not disturb each other. Raises `NativeUnavailable` where that cannot be.
    """
    named = compiler or os.environ.get("CC") or "cc"
    path = shutil.which(named)
    if path is None:
        raise NativeUnavailable(f"there is no C compiler {named!r}")
    sources = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256("\0".join(flags).encode())
    # What a compiler defines beforehand says which it is and what the CPU has.
    digest.update(_run([path, *flags, "-dM", "-E", "-x", "c", os.devnull]))
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    try:
        target = folder or cache_folder() / "native"
        library = target / f"{digest.hexdigest()[:32]}.so"
        if library.exists():
            return library
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target) as scratch:
            made = Path(scratch) / library.name
            files = [str(source) for source in sources if source.suffix == ".c"]
            _run([path, *flags, *files, "-o", str(made), "-lm"])
            made.replace(library)
    except OSError as error:
        raise NativeUnavailable(f"the cache folder cannot be used: {error}") from error
    return library


def _run(command: Sequence[str]) -> bytes:
    """What the compiler prints."""
    try:
        return subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_TIMEOUT_S).stdout
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.decode(errors="replace").splitlines() if "error" in line]
        raise NativeUnavailable(f"{command[0]} failed: {lines[0] if lines else error}") from error
    except subprocess.TimeoutExpired as error:
        raise NativeUnavailable(f"{command[0]} took more than {COMPILE_TIMEOUT_S} s") from error
