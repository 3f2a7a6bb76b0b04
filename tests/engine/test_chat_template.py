"""Chat templates: found where folders have them, rendered, and kept from running away or out."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.workers.engine.chat_template import ChatTemplate
from asterism.workers.engine.errors import InvalidRequest, UnsupportedModel

MESSAGES: list[dict[str, object]] = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi", "tool_calls": None},
]

CHATML = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def template(source: str, **special_tokens: str) -> ChatTemplate:
    return ChatTemplate({"default": source}, special_tokens)


def test_a_conversation_becomes_a_prompt() -> None:
    rendered = template(CHATML, eos_token="<|im_end|>").render(MESSAGES)
    assert rendered == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not template(CHATML).render(MESSAGES, add_generation_prompt=False).endswith("assistant\n")


def test_what_is_null_in_a_message_is_not_there() -> None:
    source = "{% for message in messages %}{{ message.tool_calls is defined }} {% endfor %}"
    assert template(source).render(MESSAGES) == "False False "


def test_tools_have_a_template_of_their_own_where_the_model_has_one() -> None:
    chat = ChatTemplate({"default": "plain", "tool_use": "{{ tools | map(attribute='name') | join(', ') }}"}, {})
    assert chat.render(MESSAGES) == "plain"
    assert chat.render(MESSAGES, tools=[{"name": "a"}, {"name": "b"}]) == "a, b"


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("{{ {'a': '<é>', 'b': [1, none]} | tojson }}", '{"a": "<é>", "b": [1, null]}'),
        ("{{ messages | tojson(indent=1) | length > 10 }}", "True"),
        ("{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "10"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}said{% endgeneration %}", "said"),
        ("{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice('ab') ~ 1 ~ none }}", "abab1None"),
        ("{{ 'a-b-c'.replace('-', '+').split('+') | join('/') }}", "a/b/c"),
        ("{{ ','.join(['a', 'b']) }}{{ 'x' * 3 }}{{ 2 ** 10 }}{{ 7 % 4 }}", "a,bxxx10243"),
        ("{{ strftime_now('%Y-%-d') | length >= 6 }}", "True"),
        ("{{ 'a\nb' | indent(2, first=true) }}", "  a\n  b"),
        ("{{ missing }}{{ think | default('no') }}", "no"),
        ("{% for loop_again in [1] recursive %}{{ loop.index }}{% endfor %}", "1"),
    ],
)
def test_what_templates_use(source: str, rendered: str) -> None:
    assert template(source).render(MESSAGES) == rendered


def test_variables_reach_the_template_and_do_not_replace_the_messages() -> None:
    chat = template("{{ enable_thinking }} {{ messages | length }}")
    assert chat.render(MESSAGES, variables={"enable_thinking": False, "messages": []}) == "False 2"


def test_what_the_template_refuses_is_told_in_its_words() -> None:
    chat = template("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequest, match="roles must alternate") as refused:
        chat.render(MESSAGES)
    assert refused.value.field == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set t %}{{ ns.x }}{{ ns.x }}{% endset %}"
        "{% set ns.x = t %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{% for i in range(9999) %}" + 99999 * "x" + "{% endfor %}",
        "{{ 'x' * 999999999999 }}",
        "{{ 999999999999 * [1] }}",
        "{{ 10 ** 999999999999 }}",
        "{{ range(999999999) | list | length }}",
        "{{ ('x' * 99999).replace('x', 'x' * 99999) }}",
        "{{ ('x' * 99999) | replace('x', 'x' * 99999) }}",
        "{{ ('x' * 99999).join(range(99999) | map('string')) }}",
        "{{ range(99999) | join('x' * 99999) }}",
        "{{ ('\n' * 99999) | indent('x' * 60) | indent('x' * 60) | indent('x' * 60) | indent('x' * 60) | length }}"
        "{{ ('\n' * 999999) | indent('x' * 60) }}",
        "{{ 'x' | center(999999999) }}",
        "{{ 'x'.ljust(999999999) }}",
        "{{ 'x'['ljust'](999999999) }}",
        "{{ '%0999999999d' % 1 }}",
        "{{ '{:0999999999d}'.format(1) }}",
        "{{ (1).to_bytes(999999999, 'big') }}",
        "{{ strftime_now('%999999999d') }}",
        "{{ [1] | tojson(indent=999999999) }}",
        "{{ 'x' | indent(999999999) }}",
        "{{ lipsum(n=99999) }}",
    ],
)
def test_a_template_that_runs_away_is_stopped(source: str) -> None:
    with pytest.raises((InvalidRequest, UnsupportedModel)):
        template(source).render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__subclasses__() }}",
        "{% set ns = namespace(__class__=1) %}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ raise_exception.__globals__['json'] }}",
        "{% include 'secret' %}",
        "{% import 'os' as os %}",
        "{{ 1 / 0 }}",
        "{{ messages[7].role.name }}",
        "{{ 'a' + 1 }}",
        "{{ unclosed",
        "{{ 'x' | frobnicate }}",
        "{% do %}",
    ],
)
def test_a_template_that_reaches_out_or_fails_gets_a_named_error(source: str) -> None:
    with pytest.raises((InvalidRequest, UnsupportedModel)) as refused:
        template(source).render(MESSAGES)
    assert str(refused.value).startswith(("messages", "unsupported model: chat_template"))


@given(st.text(alphabet="{}%-# abm'|~.()[]0+*\n", max_size=60))
def test_any_template_renders_or_gets_a_named_error(source: str) -> None:
    try:
        rendered = template(source).render(MESSAGES)
    except (InvalidRequest, UnsupportedModel):
        return
    assert isinstance(rendered, str)


def test_messages_that_are_not_json_are_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        template("").render([{"role": "user", "content": object()}])
    assert refused.value.field == "messages"


def test_a_long_conversation_is_within_the_budget() -> None:
    messages = [{"role": "user", "content": "word " * 1000}] * 1000
    assert len(template(CHATML).render(messages)) > 5_000_000


def write(folder: Path, name: str, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")


def test_a_folder_without_a_template_has_none(tmp_path: Path) -> None:
    assert ChatTemplate.find(tmp_path) is None
    write(tmp_path, "tokenizer_config.json", {"bos_token": "<s>"})
    assert ChatTemplate.find(tmp_path) is None


def test_a_file_of_its_own_goes_before_the_tokenizer_config(tmp_path: Path) -> None:
    tokens = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "pad_token": None}
    write(tmp_path, "tokenizer_config.json", {"chat_template": "old", **tokens})
    assert ChatTemplate.find(tmp_path) == template("old", bos_token="<s>", eos_token="</s>")
    write(tmp_path, "chat_template.jinja", "new")
    assert ChatTemplate.find(tmp_path) == template("new", bos_token="<s>", eos_token="</s>")


def test_named_templates_of_a_tokenizer_config(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    write(tmp_path, "tokenizer_config.json", {"chat_template": named})
    assert ChatTemplate.find(tmp_path) == ChatTemplate({"default": "a", "tool_use": "b"}, {})


def test_named_templates_need_a_default() -> None:
    with pytest.raises(UnsupportedModel) as refused:
        ChatTemplate({"rag": "x"}, {}).render(MESSAGES)
    assert refused.value.field == "chat_template"


@pytest.mark.parametrize(
    ("file", "content", "field"),
    [
        ("tokenizer_config.json", "{", "tokenizer_config.json"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json"),
        ("tokenizer_config.json", {"chat_template": 7}, "chat_template"),
        ("tokenizer_config.json", {"chat_template": [{"name": "default"}]}, "chat_template"),
        ("tokenizer_config.json", {"chat_template": "x", "bos_token": 7}, "bos_token"),
        ("chat_template.jinja", "x" * ((1 << 20) + 1), "chat_template.jinja"),
    ],
)
def test_a_file_that_does_not_read_is_named(tmp_path: Path, file: str, content: object, field: str) -> None:
    write(tmp_path, file, content)
    with pytest.raises(UnsupportedModel) as refused:
        ChatTemplate.find(tmp_path)
    assert refused.value.field == field
