"""Writes the code of protocol/v1/ from its .proto files: `python protocol/generate.py` (needs the `dev` extra)."""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / ".namespace"
"""Where a .proto's path equals its import path, so that nothing that is generated needs a patch."""


def generate(into: Path) -> int:
    """Write the modules and stubs under `into`; protoc's exit status."""
    protos = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "asterism/protocol/v1").glob("*.proto"))
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
    # protoc looks for the plugin that writes the stubs in PATH; it lies beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return subprocess.run([*command, *outputs, *protos], env={**os.environ, "PATH": path}, check=False).returncode


if __name__ == "__main__":
    sys.exit(generate(ROOT))
