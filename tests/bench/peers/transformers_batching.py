"""transformers' continuous batching in float32, measured for `asterism bench engine --peer`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig, __version__
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parent))
from measuring import Task, measure

PAGE_TOKENS = 64
"""Divides the prefix of the fork, so that all of it can be shared; the default of 256 was not faster at decoding."""


def main() -> None:
    task = Task.read()
    torch.set_num_threads(task.os_threads)
    logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_pretrained(task.folder, dtype=torch.float32, attn_implementation="sdpa")
    plan = task.plan
    longest = max(plan["prompt_tokens"] + plan["long_tokens"], plan["fork_prefix"] + 1 + plan["fork_tokens"])
    batching = ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=task.max_batch * (longest // PAGE_TOKENS + 2),
        max_batch_tokens=1024,
        max_requests_per_batch=task.max_batch,
    )

    def answer(prompts: Sequence[Sequence[int]], tokens: int) -> None:
        wanted = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
        found = model.generate_batch(
            [list(prompt) for prompt in prompts],
            generation_config=wanted,
            continuous_batching_config=batching,
            persistent_manager=True,
            warmup=False,
        )
        lengths = [len(output.generated_tokens) for output in found.values()]
        if lengths != [tokens] * len(prompts):
            raise SystemExit(f"answers of {lengths} tokens where {tokens} were asked for")

    def fork(prefix: Sequence[int], own: Sequence[Sequence[int]], tokens: int) -> None:
        # Requests of one batch share no pages that are not computed yet, so the prefix goes first.
        answer([prefix], 1)
        answer([[*prefix, *each] for each in own], tokens)

    measure(f"transformers {__version__}", task, model.config.vocab_size, answer, fork)


if __name__ == "__main__":
    main()
