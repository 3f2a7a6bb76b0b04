"""The generated code in the repository is what its .proto files give."""

from pathlib import Path

from asterism.protocol import v1
from asterism.protocol.generate import generate


def test_regenerating_gives_no_difference(tmp_path: Path) -> None:
    assert generate(tmp_path) == 0
    committed = Path(v1.__file__).parent
    written = {path.name: path.read_bytes() for path in (tmp_path / "asterism/protocol/v1").iterdir()}
    there = {path.name: path.read_bytes() for path in committed.iterdir() if "_pb2" in path.name and path.is_file()}
    assert sorted(written) == sorted(there)
    assert [name for name, code in written.items() if there[name] != code] == []
