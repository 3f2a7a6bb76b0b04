"""vLLM's CPU build in float32, measured for `asterism bench engine --peer`; it wants an environment of its own."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from vllm import LLM, SamplingParams, __version__

sys.path.insert(0, str(Path(__file__).parent))
from measuring import Task, measure


def main() -> None:
    task = Task.read()
    os.environ["OMP_NUM_THREADS"] = str(task.os_threads)
    plan = task.plan
    longest = max(plan["prompt_tokens"] + plan["long_tokens"], plan["fork_prefix"] + 1 + plan["fork_tokens"])
    engine = LLM(
        model=str(task.folder),
        dtype="float32",
        skip_tokenizer_init=True,
        max_model_len=longest,
        max_num_seqs=task.max_batch,
        enable_prefix_caching=True,
    )

    def answer(prompts: Sequence[Sequence[int]], tokens: int) -> None:
        wanted = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        found = engine.generate(asked, wanted, use_tqdm=False)
        lengths = [len(output.outputs[0].token_ids) for output in found]
        if lengths != [tokens] * len(prompts):
            raise SystemExit(f"answers of {lengths} tokens where {tokens} were asked for")

    def fork(prefix: Sequence[int], own: Sequence[Sequence[int]], tokens: int) -> None:
        # A block is found by others once it has been computed, so the prefix goes first.
        answer([prefix], 1)
        answer([[*prefix, *each] for each in own], tokens)

    vocab_size = engine.llm_engine.model_config.get_vocab_size()
    measure(f"vLLM {__version__} (CPU)", task, vocab_size, answer, fork)


if __name__ == "__main__":
    main()
