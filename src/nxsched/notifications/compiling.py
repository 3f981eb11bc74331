"""Templates that tenants write: what they may say, and what they give. Nothing in them can call, count or run long.

A sandbox keeps a template from the program; it does not keep it from a loop in a loop in a loop. So a template is
allowed what messages need, node by node, and everything else is refused when it is saved, with its line.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from nxsched.domain.messages import MAX_TEMPLATE
from nxsched.errors import InvalidInput, MissingExtra

try:
    from jinja2 import ChainableUndefined, TemplateError, TemplateSyntaxError, nodes
    from jinja2.environment import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ModuleNotFoundError as _missing:
    raise MissingExtra(what="Rendering messages", extra="messages") from _missing

_TESTS: Final = ("defined", "none")
_LOOP: Final = {"first": True, "last": True, "index": 1, "length": 1}
_NAME: Final = "<template>"

MOST_DEPTH: Final = 20
"""Parts of a template inside one another."""

MOST_NODES: Final = 1_000
"""Parts of a template."""

_HARMFUL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

_PLAIN: Final = (
    nodes.And, nodes.Compare, nodes.CondExpr, nodes.Const, nodes.If, nodes.Not, nodes.Operand, nodes.Or, nodes.Output,
    nodes.Template, nodes.TemplateData,
)  # fmt: skip


def _plain(value: object) -> object:
    """What is missing is empty."""
    return "" if value is None else value


def _joined(value: object, between: object = ", ") -> str:
    texts = [str(_plain(one)) for one in value] if isinstance(value, list) else [str(_plain(value))]
    return str(between)[:100].join(texts)[: MAX_TEMPLATE + 1]


_FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "capitalize": lambda value: str(_plain(value)).capitalize(),
    "default": lambda value, instead="": value or instead,
    "join": _joined,
    "length": lambda value: len(value) if isinstance(value, list | str) else 0,
    "lower": lambda value: str(_plain(value)).lower(),
    "title": lambda value: str(_plain(value)).title(),
    "trim": lambda value: str(_plain(value)).strip(),
    "upper": lambda value: str(_plain(value)).upper(),
}


class _Environment(ImmutableSandboxedEnvironment):
    """Where rendering never fails for what is missing: names were looked at when the template was saved."""

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401 - of any value
        """A value of nothing is nothing."""
        return self.undefined(name=attribute) if obj is None else super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401 - of any value
        """As above."""
        return self.undefined(name=str(argument)) if obj is None else super().getitem(obj, argument)


def _environment(*, html: bool) -> _Environment:
    made = _Environment(
        autoescape=html, undefined=ChainableUndefined, finalize=_plain, trim_blocks=True, lstrip_blocks=True
    )
    made.globals.clear()
    made.filters = dict(_FILTERS)
    made.tests = {name: made.tests[name] for name in (*_TESTS, "eq", "ne")}
    return made


_ENVIRONMENTS: Final = {html: _environment(html=html) for html in (False, True)}


@lru_cache(maxsize=512)
def _compiled(source: str, html: bool) -> Template:
    environment: Any = _ENVIRONMENTS[html]
    code = environment.compile(source, filename=_NAME)
    return Template.from_code(environment, code, environment.make_globals(None))


def rendered(field: str, source: str, context: Mapping[str, Any], *, html: bool = False) -> str:
    """What a template gives. Raises `InvalidInput`, with the line, where it cannot be rendered, or gives too much."""
    parts: list[str] = []
    size = 0
    try:
        for part in _compiled(source, html).generate(context):
            parts.append(part)
            size += len(part)
            if size > MAX_TEMPLATE:
                break
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, SyntaxError, RecursionError) as error:
        raise _refused(field, _line(error), str(error)) from error
    if size > MAX_TEMPLATE:
        raise InvalidInput(field=field, reason=f"gives more than {MAX_TEMPLATE} characters")
    return _HARMFUL.sub("\N{REPLACEMENT CHARACTER}", "".join(parts)).strip()


def check(field: str, source: str, sample: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` for what is no template, or says what none may, or names what a message does not know."""
    try:
        tree = _ENVIRONMENTS[False].parse(source)
    except TemplateSyntaxError as error:
        raise _refused(field, error.lineno, str(error.message)) from error
    except (RecursionError, ValueError, OverflowError) as error:
        raise InvalidInput(field=field, reason=f"is no template that can be read: {str(error)[:100]}") from error
    _Reader(field).read(tree, sample)


class _Reader:
    """Goes through a template with what it may name."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._seen = 0

    def read(self, node: nodes.Node, known: Mapping[str, Any], depth: int = 0, *, loops: bool = False) -> None:
        """Look at a node and all below it."""
        self._seen += 1
        if depth > MOST_DEPTH or self._seen > MOST_NODES:
            most = f"{MOST_NODES} parts, {MOST_DEPTH} of them inside one another"
            raise self._error(node, f"is too much: a template may have {most}")
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                self._value(node, known)
            case nodes.For():
                self._loop(node, known, depth, loops=loops)
            case _:
                self._allow(node, loops=loops)
                for child in node.iter_child_nodes():
                    self.read(child, known, depth + 1, loops=loops)

    def _allow(self, node: nodes.Node, *, loops: bool) -> None:
        """Refuse what has no place in a message."""
        match node:
            case nodes.Compare() if any(one.op not in {"eq", "ne"} for one in node.ops):
                raise self._error(node, "values can be compared by == and != alone")
            case nodes.Filter() if node.name not in _FILTERS:
                raise self._error(node, f"there is no filter {node.name}: there are {', '.join(_FILTERS)}")
            case nodes.Filter() if not all(isinstance(one, nodes.Const) for one in node.args) or node.kwargs:
                raise self._error(node, f"{node.name} takes plain words and numbers")
            case nodes.Filter() if node.name in {"join", "length"} and (loops or isinstance(node.node, nodes.Filter)):
                raise self._error(node, f"{node.name} is for a list, outside of loops")
            case nodes.Test() if node.name not in _TESTS:
                raise self._error(node, f"there is no test {node.name}: there are {', '.join(_TESTS)}")
            case nodes.Filter() | nodes.Test() | nodes.Operand():
                pass
            case _ if not isinstance(node, _PLAIN):
                what = type(node).__name__.lower()
                raise self._error(node, f"{what} has no place in a message: values, if, for and filters have")

    def _loop(self, node: nodes.For, known: Mapping[str, Any], depth: int, *, loops: bool) -> None:
        if loops:
            raise self._error(node, "a loop in a loop has no place in a message")
        if node.recursive or not isinstance(node.target, nodes.Name):
            raise self._error(node, "a loop is {% for one in … %}")
        items = self._value(node.iter, known)
        if not isinstance(items, Sequence) or isinstance(items, str):
            raise self._error(node, "only a list can be gone through: hosts, former_hosts, answers")
        inside = {**known, node.target.name: items[0] if items else None, "loop": _LOOP}
        for child in (*node.body, *([node.test] if node.test else ())):
            self.read(child, inside, depth + 1, loops=True)
        for child in node.else_:
            self.read(child, known, depth + 1)

    def _value(self, node: nodes.Node, known: Mapping[str, Any]) -> Any:  # noqa: ANN401 - of a sample
        """What a name stands for in the sample."""
        if isinstance(node, nodes.Name):
            return self._of(node, known, node.name, "")
        if isinstance(node, nodes.Getattr):
            return self._of(node, self._value(node.node, known), node.attr, _written(node.node))
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            return self._of(node, self._value(node.node, known), node.arg.value, _written(node.node))
        raise self._error(node, "only names of values can stand here: booking.start.date")

    def _of(self, node: nodes.Node, holder: Any, name: object, where: str) -> Any:  # noqa: ANN401 - of a sample
        if isinstance(holder, Mapping) and name in holder:
            return holder[name]
        if isinstance(holder, list) and isinstance(name, int) and holder:
            return holder[0]
        names = ", ".join(sorted(map(str, holder))) if isinstance(holder, Mapping) else "nothing"
        what = f"{where} has no {name}: it has {names}" if where else f"there is no {name}: there are {names}"
        raise self._error(node, what)

    def _error(self, node: nodes.Node, reason: str) -> InvalidInput:
        return _refused(self._field, node.lineno, reason)


def _written(node: nodes.Node) -> str:
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        return f"{_written(node.node)}.{node.attr}"
    return "what it is of"


def _refused(field: str, line: int | None, reason: str) -> InvalidInput:
    return InvalidInput(field=field, reason=f"line {line}: {reason}" if line else reason)


def _line(error: BaseException) -> int | None:
    lines = [one.lineno for one in _frames(error) if one.filename == _NAME]
    return lines[-1] if lines else None


def _frames(error: BaseException) -> Iterator[traceback.FrameSummary]:
    yield from traceback.extract_tb(error.__traceback__)
