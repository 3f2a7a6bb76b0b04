"""Folders that transformers wrote: the same logits, the same greedy tokens and the same chats as transformers' own.

transformers takes seconds to import, so this is the only page of the tests that does.
"""

import importlib
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from asterism.workers.engine.chat_template import ChatTemplate
from asterism.workers.engine.folder import load_folder
from tests.engine.conftest import CHARACTERS, character_tokenizer

SHAPE = {
    "vocab_size": len(CHARACTERS),
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10_000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 500.0,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama with biases and wide heads": ("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
    "llama 3": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2 with yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen2 with a window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 0}),
    "qwen3": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3 with biases": ("Qwen3", {"head_dim": 8, "attention_bias": True}),
    "mistral": ("Mistral", {"sliding_window": 24, "head_dim": 16}),
    "mistral without a window": ("Mistral", {"sliding_window": None}),
}


@pytest.fixture(scope="module")
def transformers() -> Iterator[Any]:
    with warnings.catch_warnings():
        # Its imports reach for parts of other distributions that those have deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        # By name, for type checkers would read all of it.
        library = importlib.import_module("transformers")
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
        yield library


def random_model(transformers: Any, family: str, changes: dict[str, Any]) -> Any:
    """A model of transformers with weights large enough that the likeliest token changes from step to step."""
    config = getattr(transformers, f"{family}Config")(**{**SHAPE, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.normal_(1.0 if "norm" in name else 0.0, 0.3)
    return model


@pytest.mark.parametrize(("family", "changes"), MODELS.values(), ids=MODELS.keys())
@torch.inference_mode()
def test_a_folder_of_the_family(transformers: Any, tmp_path: Path, family: str, changes: dict[str, Any]) -> None:
    theirs = random_model(transformers, family, changes)
    theirs.save_pretrained(tmp_path, max_shard_size="60KB")
    character_tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = load_folder(tmp_path).decoder

    token_ids = torch.tensor([random.Random(3).choices(range(len(CHARACTERS)), k=90)])
    torch.testing.assert_close(ours(token_ids), theirs(token_ids).logits, rtol=1e-4, atol=1e-4)

    prompt = token_ids[:, :5]
    expected = theirs.generate(prompt, max_new_tokens=200, do_sample=False, eos_token_id=None, pad_token_id=0)
    # Greedy decoding chooses the likeliest token after what was chosen before: all 200 choices in one forward.
    chosen = ours(expected[:, :-1])[:, prompt.shape[1] - 1 :].argmax(dim=-1)
    assert chosen.tolist() == expected[:, prompt.shape[1] :].tolist()
    assert len(set(chosen[0].tolist())) > 5


CHATS = {
    "turns": (
        "{{- bos_token }}{% for message in messages %}\n"
        "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) and message.role != 'tool' %}\n"
        "        {{- raise_exception('turns') if strict else '' }}\n"
        "    {%- endif %}\n"
        "    {{- '<' ~ message.role ~ '>' ~ message.content | trim ~ eos_token }}\n"
        "{% endfor %}\n"
        "{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    ),
    "tools and thinking": (
        "{%- if tools %}\n    {{- 'Tools:\\n' }}\n"
        "    {%- for tool in tools %}\n        {{- tool | tojson }}{{ '\\n' }}\n    {%- endfor %}\n{%- endif %}\n"
        "{%- set ns = namespace(last=messages | length - 1, seen=false) %}\n"
        "{%- for message in messages[::-1] %}\n"
        "    {%- if not ns.seen and message.role == 'user' %}\n"
        "        {%- set ns.seen = true %}{%- set ns.last = messages | length - 1 - loop.index0 %}\n"
        "    {%- endif %}\n{%- endfor %}\n"
        "{%- for message in messages %}\n"
        "    {%- set content = message.content if message.content is string else '' %}\n"
        "    {%- if '</think>' in content and loop.index0 < ns.last %}\n"
        "        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n    {%- endif %}\n"
        "    {{- '[' + message.role + ']' + content.replace('  ', ' ') }}\n"
        "    {%- for call in message.tool_calls or [] %}\n"
        "        {{- '\\ncall ' + call.function.name + ' ' }}{{ call.function.arguments | tojson(indent=2) }}\n"
        "    {%- endfor %}\n    {{- '\\n' }}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '[assistant]' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think></think>' }}{%- endif %}\n"
        "{%- endif %}"
    ),
    "macros and dates": (
        "{% macro show(message) -%}{{ message.role | upper }}: {{ message.content or '' }}{%- endmacro %}\n"
        "{{ strftime_now('%Y') | int > 2000 }}\n"
        "{% for message in messages if message.role != 'system' %}\n"
        "{% if loop.index > 3 %}{% break %}{% endif %}\n"
        "{{ show(message) | indent(2, true) }}\n"
        "{% generation %}{{ message.keys() | list | sort | join(',') }}{% endgeneration %}\n"
        "{% endfor %}\n"
    ),
}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": " what  is <it>? é "},
    {"role": "assistant", "content": "<think>hm</think>\n\nlet us see\nthere", "name": None},
    {"role": "user", "content": "go on"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"at": ["ü", 1.5, None]}}}],
    },
    {"role": "tool", "content": '{"seen": true}'},
]
TOOL = {"type": "function", "function": {"name": "look", "description": "<b>", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("source", CHATS.values(), ids=CHATS.keys())
@pytest.mark.parametrize("in_file", [True, False], ids=["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_is_rendered_as_transformers_does(transformers: Any, tmp_path: Path, source: str, in_file: bool) -> None:
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=character_tokenizer(), bos_token="<s>", eos_token=transformers.AddedToken("</s>")
    )
    theirs.chat_template = source
    theirs.save_pretrained(tmp_path, save_jinja_files=in_file)
    assert (tmp_path / "chat_template.jinja").exists() == in_file
    ours = ChatTemplate.find(tmp_path)
    assert ours is not None
    for count in range(1, len(CONVERSATION) + 1):
        for tools in (None, [TOOL]):
            for variables in ({}, {"enable_thinking": False}):
                for prompts in (True, False):
                    expected = theirs.apply_chat_template(
                        CONVERSATION[:count], tools=tools, tokenize=False, add_generation_prompt=prompts, **variables
                    )
                    rendered = ours.render(
                        CONVERSATION[:count], tools=tools, add_generation_prompt=prompts, variables=variables
                    )
                    assert rendered == expected
