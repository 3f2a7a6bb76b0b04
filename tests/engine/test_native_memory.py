"""What the native computer takes of the machine's memory, and when."""

import sys
from pathlib import Path

import psutil
import pytest

from asterism.workers.engine.native import computer as native
from asterism.workers.engine.native.computer import spare_bytes
from asterism.workers.engine.step import BLOCK_TOKENS
from tests.engine.conftest import random_decoder
from tests.engine.natively import computer

BLOCKS = 20_000
KV_BYTES = BLOCKS * BLOCK_TOKENS * 2 * 4 * 2 * 16  # float32 keys and values of 2 layers of 16 numbers


def taken(before: int) -> int:
    """Bytes of physical memory since then."""
    return psutil.Process().memory_info().rss - before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked for its memory at once")
@pytest.mark.parametrize("is_there", [True, False], ids=["enough is left", "little is left"])
def test_kv_memory_is_taken_at_the_start_where_enough_is_left(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = random_decoder(3, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    computer(decoder)  # What the first one takes besides.
    spare = native.POPULATED_SHARE * KV_BYTES - (0 if is_there else 1)
    monkeypatch.setattr(native, "spare_bytes", lambda: spare)
    before = psutil.Process().memory_info().rss
    made = computer(decoder, blocks=BLOCKS)
    assert made.kv_bytes == KV_BYTES
    if is_there and not made._library.populate_kv(made._model):  # pyright: ignore[reportPrivateUsage]  # asks again
        pytest.skip("this kernel gives memory page by page alone: Linux 5.14 is the first that does otherwise")
    assert (taken(before) > 0.9 * KV_BYTES) == is_there


def test_container_that_has_a_limit_leaves_what_it_has_not_used(tmp_path: Path) -> None:
    of_the_machine = spare_bytes(tmp_path)
    assert of_the_machine > 0
    for most, current, left in (("9000", "4000", 5000), ("9000", "9500", 0)):
        (tmp_path / "memory.max").write_text(f"{most}\n")
        (tmp_path / "memory.current").write_text(f"{current}\n")
        assert spare_bytes(tmp_path) == left
    (tmp_path / "memory.max").write_text("max\n")
    assert spare_bytes(tmp_path) > 9000
