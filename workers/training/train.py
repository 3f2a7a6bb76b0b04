"""Trains a Countdown model: `python -m asterism.workers.training.train --minutes 60`.

Runs on one CPU core or one GPU, writes a checkpoint every minute, and goes on from it when started again. On a
GPU, give it as many `--makers` as there are cores to spare: the data is the slower half.
"""

import argparse
from pathlib import Path
from typing import Final

from asterism.workers.training.shape import DISTRIBUTIONS

_GPU_ROWS: Final = 16
"""10,240 places an update: about what seven makers fill sixty times a second."""


def main() -> None:
    # Not at the top: the makers import this file again, and need no torch.
    import torch

    from asterism.workers.training.learning import Plan, train

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", choices=sorted(DISTRIBUTIONS), default="countdown")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time, all runs of a checkpoint together")
    parser.add_argument("--rows", type=int, help=f"full rows an update; 0: groups (default; {_GPU_ROWS} on a GPU)")
    parser.add_argument("--scale", type=int, default=1, help="a group update learns from about 16 times so many traces")
    parser.add_argument("--makers", type=int, default=0, help="processes that make the data; 0: the training itself")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bfloat16", action="store_true", help="1.5 times as fast on a CPU that has AVX512-BF16")
    parser.add_argument("--recorded", action="store_true", help="play updates as a CUDA graph; needs --rows")
    parser.add_argument("--compiled", action="store_true", help="1.6 times as fast on a CPU; takes a minute to start")
    parser.add_argument("--threads", type=int, default=1, help="OS threads of torch on a CPU")
    parser.add_argument("--checkpoint", type=Path, help="default: checkpoints/BOARDS.pt")
    parser.add_argument("--out", type=Path, help="default: checkpoints/BOARDS")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    rows = (_GPU_ROWS if device.type == "cuda" else 0) if options.rows is None else options.rows
    if options.recorded and not (rows and device.type == "cuda"):
        parser.error("--recorded needs a CUDA device, and --rows")
    train(
        Plan(
            boards=options.boards,
            minutes=options.minutes,
            rows=rows,
            scale=options.scale,
            makers=options.makers,
            seed=options.seed,
            device=device,
            bfloat16=options.bfloat16,
            recorded=options.recorded,
            compiled=options.compiled,
            checkpoint=options.checkpoint or Path(f"checkpoints/{options.boards}.pt"),
            out=options.out or Path(f"checkpoints/{options.boards}"),
        )
    )


if __name__ == "__main__":
    main()
