"""The model folder that a worker loads: config.json, tokenizer.json and model.safetensors, weights in float16.

`python -m asterism.workers.training.export` writes it from a checkpoint of a run that has not ended yet.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from asterism.agents import markup
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.folder import save_folder
from asterism.workers.training.shape import DISTRIBUTIONS
from asterism.workers.training.traces import TOKEN_ID


def make_tokenizer() -> Tokenizer:
    """One id a word, words parted by spaces; unknown words become `<unk>`."""
    tokenizer = Tokenizer(models.WordLevel(dict(TOKEN_ID), unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<pad>", markup.END, "<unk>"])
    return tokenizer


def write_model(decoder: Decoder, folder: Path) -> None:
    """Writes the three files of the model folder."""
    save_folder(folder, decoder, make_tokenizer())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", choices=sorted(DISTRIBUTIONS), default="countdown")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/countdown.pt"))
    parser.add_argument("--out", type=Path, default=Path("checkpoints/countdown"))
    options = parser.parse_args()
    decoder = Decoder(DISTRIBUTIONS[options.boards].shape)
    decoder.load_state_dict(torch.load(options.checkpoint, map_location="cpu", weights_only=True)["decoder"])
    write_model(decoder, options.out)


if __name__ == "__main__":
    main()
