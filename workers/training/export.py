"""The model folder that a worker loads: config.json, tokenizer.json and model.safetensors, weights in float16."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from asterism.agents import markup
from asterism.workers.engine.decoder import Decoder
from asterism.workers.training.traces import TOKEN_ID


def make_tokenizer() -> Tokenizer:
    """One id a word, words parted by spaces; unknown words become `<unk>`."""
    tokenizer = Tokenizer(models.WordLevel(dict(TOKEN_ID), unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<pad>", markup.END, "<unk>"])
    return tokenizer


def write_model(decoder: Decoder, folder: Path) -> None:
    """Writes the three files; a tied head is stored once, under the embedding's name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(decoder.config.to_json(), indent=2) + "\n", encoding="utf-8")
    make_tokenizer().save(str(folder / "tokenizer.json"))
    weights = {
        name: tensor.to("cpu", torch.float16).contiguous()
        for name, tensor in decoder.state_dict().items()
        if not (decoder.config.tie_word_embeddings and name == "lm_head.weight")
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
