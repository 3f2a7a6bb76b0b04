"""The command that measures the engine: its cases on a small plan, its table, and the peers that it runs."""

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from asterism.orchestrator.core.errors import InvalidField
from asterism.workers.bench.cases import Figures, Plan
from asterism.workers.bench.engine import Row, bench_engine, error_lines, table
from asterism.workers.bench.peers import measure_peer
from asterism.workers.bench.shapes import SHAPES
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.native.library import is_available

SMALL = Plan(
    batches=(1, 2),
    prompt_tokens=4,
    short_tokens=2,
    long_tokens=6,
    fork_prefix=32,
    fork_threads=3,
    fork_tokens=4,
    waiting=5,
    rounds=1,
)

PEER = """
import json, sys
from pathlib import Path
asked = json.loads(Path(sys.argv[-1]).read_text())
files = sorted(path.name for path in Path(asked["folder"]).iterdir())
assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files), files
print("noise")
print(json.dumps({"engine": "peer", "tokens_per_s": {batch: 10 * batch for batch in asked["plan"]["batches"]}}))
"""


def command(program: str, folder: Path) -> str:
    path = folder / "peer.py"
    path.write_text(program)
    return shlex.join([sys.executable, str(path)])


async def test_every_figure_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await bench_engine(["5M"], dtype="float32", os_threads=1, plan=SMALL, peers=[command(PEER, tmp_path)], as_json=True)

    printed = capsys.readouterr()
    found: dict[str, Any] = json.loads(printed.out)
    ours, peer = found["rows"]
    assert (ours["model"], ours["engine"], peer["engine"]) == ("5M", "asterism", "peer")
    assert ours["tokens_per_s"].keys() == {"1", "2"}
    assert ours["fork_shared_s"] > 0
    assert ours["fork_ratio"] == pytest.approx(ours["fork_shared_s"] / ours["fork_separate_s"])
    assert ours["admission_s"] > 0
    assert peer["tokens_per_s"] == {"1": 10, "2": 20}
    assert peer["fork_ratio"] is None
    assert "5M: batch 2" in printed.err


async def test_int8_is_shown_with_its_error_beside_that_of_q8_0(capsys: pytest.CaptureFixture[str]) -> None:
    if (reason := is_available()) is not None:
        pytest.skip(reason)
    await bench_engine(["5M"], dtype="int8", os_threads=1, plan=SMALL, peers=[], as_json=True)

    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    (row,) = found["rows"]
    assert (found["dtype"], row["model"]) == ("int8", "5M")
    assert row["tokens_per_s"].keys() == {"1", "2"}
    assert 0 < row["logit_error"] < row["q8_0_logit_error"] < 0.1


def test_errors_are_said_in_a_line_where_they_are_known() -> None:
    rows = [
        Row("5M", "asterism", Figures({1: 9.0}, logit_error=0.0041, q8_0_logit_error=0.00523)),
        Row("5M", "peer", Figures({1: 5.0})),
    ]
    assert error_lines(rows) == [
        "5M: logits of int8 are off float32's by 0.41% of their size, those of Q8_0 (emulated) by 0.52%"
    ]


def test_the_table_says_what_ours_is_of_theirs() -> None:
    ours = Figures({1: 100.0, 2: 150.0}, fork_shared_s=1.0, fork_separate_s=4.0, admission_s=0.1, admission_steps=1.5)
    rows = [Row("5M", "asterism", ours), Row("5M", "peer", Figures({1: 50.0}))]

    assert table(rows, SMALL).splitlines() == [
        "model  engine    batch 1          batch 2  fork s              admission",
        "5M     asterism  100              150      1.00 / 4.00 = 0.25  100 ms = 1.5 steps",
        "5M     peer      50 (ours 2.00x)  -        -                   -",
    ]


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('nothing')", "pass", "print('{}')", "print('[1]')"])
async def test_a_peer_that_gives_no_figures_is_named(tmp_path: Path, program: str) -> None:
    peer = command(program, tmp_path)
    with pytest.raises(InvalidField) as refused:
        await measure_peer(peer, tmp_path, plan=SMALL, os_threads=1, work=tmp_path)
    assert refused.value.field == "peer"
    assert peer in refused.value.reason


async def test_an_interrupt_ends_the_peer(tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    peer = command(f"import os, time; open({str(fifo)!r}, 'w').write(str(os.getpid())); time.sleep(600)", tmp_path)
    measuring = asyncio.ensure_future(measure_peer(peer, tmp_path, plan=SMALL, os_threads=1, work=tmp_path))
    pid = int(await asyncio.to_thread(fifo.read_text))
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(("name", "millions"), [("5M", 4.7), ("50M", 50.7), ("150M", 156)])
def test_the_shapes_have_their_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        decoder = Decoder(SHAPES[name])
    assert sum(each.numel() for each in decoder.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
