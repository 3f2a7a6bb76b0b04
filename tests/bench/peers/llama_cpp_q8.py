"""llama.cpp with weights in Q8_0, through llama-cpp-python, measured for `asterism bench engine --peer`."""

import ctypes
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from measuring import Task, measure

STEP_TOKENS = 512
LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(folder: Path) -> Path:
    """The model of a Hugging Face folder as one file, matrices in Q8_0."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads, kv_heads, hidden = (config[name] for name in ("num_attention_heads", "num_key_value_heads", "hidden_size"))
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("none")
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = interleaved(weight, heads if "q_proj" in name else kv_heads)
        data = weight.float().numpy()
        if data.ndim == 2:
            quantised = gguf.quants.quantize(data, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(gguf_name(name), quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(gguf_name(name), data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp turns neighbouring dimensions of a head together, Hugging Face those half a head apart."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def gguf_name(name: str) -> str:
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in whole:
        return whole[name]
    if name == "lm_head.weight":
        return "output.weight"
    _, _, layer, rest = name.split(".", maxsplit=3)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


class Runner:
    """One context, whose sequences are the rows of a batch."""

    def __init__(self, path: Path, task: Task, context: int, *, shares: bool) -> None:
        """A cache that `shares` holds all sequences in one buffer: a fork copies references, but attention reads the
        whole buffer for each of them. The other kind has a buffer a sequence."""
        llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = context * task.max_batch
        options.n_batch = options.n_ubatch = STEP_TOKENS
        options.n_seq_max = task.max_batch
        options.n_threads = options.n_threads_batch = task.os_threads
        options.kv_unified = shares
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        if not self._context:
            raise SystemExit("llama.cpp made no context")
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(STEP_TOKENS, 0, task.max_batch)
        self._memory = llama_cpp.llama_get_memory(self._context)

    def answer(self, prompts: Sequence[Sequence[int]], tokens: int) -> None:
        llama_cpp.llama_memory_clear(self._memory, True)
        last = [self._prefill(row, prompt, 0) for row, prompt in enumerate(prompts)]
        self._decode(last, [len(prompt) for prompt in prompts], tokens - 1)

    def fork(self, prefix: Sequence[int], own: Sequence[Sequence[int]], tokens: int) -> None:
        llama_cpp.llama_memory_clear(self._memory, True)
        self._prefill(0, prefix, 0)
        for row in range(1, len(own)):
            llama_cpp.llama_memory_seq_cp(self._memory, 0, row, -1, -1)
        rows = [(each[0], row, len(prefix)) for row, each in enumerate(own)]
        last = self._step(rows, wanted=range(len(rows)))
        self._decode(last, [len(prefix) + 1] * len(own), tokens - 1)

    def _prefill(self, row: int, prompt: Sequence[int], start: int) -> int:
        chosen = 0
        for first in range(0, len(prompt), STEP_TOKENS):
            piece = prompt[first : first + STEP_TOKENS]
            rows = [(token_id, row, start + first + at) for at, token_id in enumerate(piece)]
            (chosen,) = self._step(rows, wanted=[len(rows) - 1])
        return chosen

    def _decode(self, last: list[int], positions: list[int], tokens: int) -> None:
        for done in range(tokens):
            rows = [(token_id, row, positions[row] + done) for row, token_id in enumerate(last)]
            last = self._step(rows, wanted=range(len(rows)))

    def _step(self, rows: Sequence[tuple[int, int, int]], *, wanted: Sequence[int]) -> list[int]:
        """Computes tokens (id, sequence, position), and gives the likeliest next id after those that are wanted."""
        batch: Any = self._batch
        batch.n_tokens = len(rows)
        for at, (token_id, row, position) in enumerate(rows):
            batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token_id, position, 1, 0
            batch.seq_id[at][0] = row
        for at in wanted:
            batch.logits[at] = 1
        if llama_cpp.llama_decode(self._context, batch):
            raise SystemExit("llama.cpp could not decode a batch")
        logits = (llama_cpp.llama_get_logits_ith(self._context, at) for at in wanted)
        return [int(np.ctypeslib.as_array(row, shape=(self._vocab,)).argmax()) for row in logits]


@llama_cpp.llama_log_callback
def _SILENT(level: int, text: bytes, data: object) -> None:
    """llama.cpp's log is long, and not what was asked for."""


def main() -> None:
    task = Task.read()
    plan = task.plan
    longest = max(plan["prompt_tokens"] + plan["long_tokens"], plan["fork_prefix"] + 1 + plan["fork_tokens"])
    path = write_gguf(task.folder)
    apart, shared = (Runner(path, task, longest, shares=shares) for shares in (False, True))
    config = json.loads((task.folder / "config.json").read_text(encoding="utf-8"))
    measure(f"llama.cpp Q8_0 ({llama_cpp.__version__})", task, config["vocab_size"], apart.answer, shared.fork)


if __name__ == "__main__":
    main()
