"""Jinja for chat templates of folders that nobody vouches for: no way out, and a bound on work.

jinja2's sandbox keeps templates from Python's inside and from changing what they are given. It does not keep them from
doubling a text forty times, so everything here that makes text longer or goes round again is charged to a budget
first. The budget counts and has no clock: what renders once renders on a busy machine too.
"""

import json
import re
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

BUDGET: Final = 32 << 20
"""Characters that a rendering may write or make, those that it makes on the way among them."""

ROUND_COST: Final = 512
"""Characters that one round of a loop or one call of a macro counts for: at most 65,536 rounds.
Measured: two empty loops, one in the other, spend the budget in 0.22 s of one EPYC core."""

# fmt: off
_FILTERS: Final = frozenset((
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "int",
    "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "safe",
    "select", "selectattr", "sort", "string", "sum", "title", "trim", "truncate", "unique", "upper", "urlencode",
    "wordcount",
))
# fmt: on
"""Filters whose results are about as long as what goes in."""

_GROWING: Final = frozenset(
    ["center", "encode", "expandtabs", "format", "format_map", "ljust", "rjust", "to_bytes", "translate", "zfill"]
)
"""Methods of texts and numbers whose results are as long as an argument says. No known chat template calls them."""

_STRFTIME: Final = re.compile(r"(?:[^%]|%[-_^#]?[A-Za-z%])*")
"""Without widths: C's strftime pads to any."""

_MAX_INDENT: Final = 64
_MAX_BITS: Final = 256

_left: ContextVar[list[int]] = ContextVar("characters left of a rendering")


class OverBudget(TemplateRuntimeError):
    """The template and its messages together take too much work."""


class Refused(TemplateRuntimeError):
    """The template itself says that it does not take these messages."""


@contextmanager
def budget(characters: int = BUDGET) -> Iterator[None]:
    """What is compiled or rendered inside may spend this much."""
    token = _left.set([characters])
    try:
        yield
    finally:
        _left.reset(token)


def charge(characters: int) -> None:
    left = _left.get()
    left[0] -= characters
    if left[0] < 0:
        raise OverBudget("it takes too many rounds, or makes too long a text")


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """What a chat template may use; the same things as in transformers, where they cannot run away."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, finalize=_written, extensions=[LoopControlExtension, GenerationTag]
        )
        self.filters = {name: FILTERS[name] for name in _FILTERS}
        self.filters |= {"indent": _indent, "join": _join, "replace": _replace, "tojson": _to_json}
        self.globals = {
            "dict": dict,
            "namespace": CheckedNamespace,
            "raise_exception": _refuse,
            "range": _range,
            "strftime_now": _strftime_now,
        }

    def from_source(self, source: str) -> Template:
        """Compiled, with the charges put in."""
        tree = _Charges().visit(self.parse(source))
        return self.template_class.from_code(self, self.compile(tree), self.make_globals(None), None)

    def charge_round(self, written: int) -> str:
        """At the head of each loop and macro: `written` is how much text stands in its body."""
        charge(ROUND_COST + written)
        return ""

    def charged_concat(self, *parts: object) -> str:
        """The operator ~."""
        return _written("".join(map(str, parts)))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        grows = isinstance(obj, str | bytes | int) and attr in _GROWING
        return not grows and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """No `format` at all, so none that is safe."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        match operator, left, right:
            case "+", Sized(), Sized():
                charge(len(left) + len(right))
            case "*", Sized(), int():
                charge(len(left) * max(right, 0))
            case "*", int(), Sized():
                charge(len(right) * max(left, 0))
            case "*", int(), int():
                _check_bits(left.bit_length() + right.bit_length())
            case "**", int(), int():
                _check_bits(left.bit_length() * max(right, 0))
            case "%", str() | bytes(), _:
                raise SecurityError("texts are not formatted with %")
            case _:
                pass
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Named like this in jinja2, for a template may pass arguments of any other name.
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and args:
            match __obj.__name__:
                case "replace" if len(args) > 1:
                    charge(owner.count(str(args[0])) * len(str(args[1])))
                case "join":
                    args = (list(args[0]), *args[1:])
                    charge(len(owner) * len(args[0]))
                case _:
                    pass
        return super().call(__context, __obj, *args, **kwargs)


class CheckedNamespace(Namespace):
    """jinja2's, without names that mean something to Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        # `self` has no name of its own here, so that a template may use it as one.
        for name in dict(*args[1:], **kwargs):
            _check_name(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class GenerationTag(Extension):
    """`{% generation %}` marks what the model itself said, for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Charges(NodeTransformer):
    """Puts a charge at the head of every loop and macro, and in the place of every ~.

    Through an attribute of the environment, which no template can assign to.
    """

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._with_charge(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._with_charge(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._with_charge(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("charged_concat", node.nodes, node.lineno)

    def _with_charge(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        written = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        call = _call("charge_round", [nodes.Const(written)], node.lineno)
        node.body.insert(0, nodes.ExprStmt(call).set_lineno(node.lineno))
        return node


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    call = nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)
    call.set_lineno(line)
    return call


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"a namespace takes no attribute {name!r}")


def _check_bits(bits: int) -> None:
    """Large numbers cost more than their length: a product of two as long as the budget takes minutes."""
    if bits > _MAX_BITS:
        raise OverBudget(f"it computes with numbers of more than {_MAX_BITS} bits")


def _written(value: object) -> str:
    """Every value on its way into the text."""
    text = str(value)
    charge(len(text))
    return text


def _refuse(message: object) -> None:
    raise Refused(str(message))


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    charge(len(numbers))
    return numbers


def _strftime_now(form: str) -> str:
    if not _STRFTIME.fullmatch(form):
        raise SecurityError(f"no such form of a date: {form!r}")
    return datetime.now().strftime(form)


def _indent(text: object, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    margin = " " * min(width, _MAX_INDENT + 1) if isinstance(width, int) else width
    if len(margin) > _MAX_INDENT:
        raise SecurityError(f"indents are at most {_MAX_INDENT} wide")
    charge(len(margin) * (str(text).count("\n") + 1))
    indent: Callable[..., str] = FILTERS["indent"]
    return indent(str(text), margin, first, blank)


def _join(items: Any, separator: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        raise SecurityError("join takes no attribute; use map")
    parts = [str(item) for item in items]
    charge(len(str(separator)) * len(parts) + sum(map(len, parts)))
    return str(separator).join(parts)


def _replace(text: object, old: str, new: str, count: int = -1) -> str:
    charge(str(text).count(old) * len(new))
    return str(text).replace(old, new, count)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it: not escaped for HTML, as jinja2's own filter does."""
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise SecurityError(f"indents are at most {_MAX_INDENT} wide")
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    charge(len(text))
    return text
