"""The part of Jinja2 that prompt templates may use: an allow-list over its syntax tree, and a sandbox without Python.

Operators and loops are rewritten to total functions (values.py), and the cost of a template is bounded before it runs.
So a compiled template never raises and always ends, for any data.
"""

# ADR 6
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from oo_ml.errors import InvalidTemplateError
from oo_ml.templates.values import FILTERS, MAX_ITEMS, OPERATORS, TESTS, get_field, is_scalar, iterate, print_value

VARIABLES: Final[Mapping[str, str]] = {
    "n": "the number of tips asked for",
    "tasks": "the user's tasks as the client sent them, shortened",
    "hour_of_day": "0 to 23",
    "part_of_day": "morning (from 5), afternoon (from 12), evening (from 17) or night (from 22)",
    "day_of_week": "0 to 6",
    "extra": "what else the client sent, shortened",
}
MAX_SOURCE_CHARACTERS: Final = 16_000
MAX_LOOPS: Final = 2
# A template costs a step for each expression, times 50 for each loop around it.
MAX_STEPS: Final = 50_000
# Jinja2 and Python compile by recursion. These limits stay far from Python's, however deep the caller's stack is.
MAX_DEPTH: Final = 20
MAX_BRACKETS: Final = 10

_EACH: Final = "each"
_LOOP_FIELDS: Final = frozenset({"index", "index0", "first", "last", "length"})
_TAKEN_NAMES: Final = frozenset({*VARIABLES, "loop", "self", "super", "caller", "varargs", "kwargs"})


class _Environment(ImmutableSandboxedEnvironment):
    """Sandbox that looks up fields in the data only, never in Python objects: `task.items` is a field, or null."""

    def getattr(self, obj: object, attribute: str) -> object:
        if isinstance(obj, LoopContext):
            return getattr(obj, attribute) if attribute in _LOOP_FIELDS else None
        return get_field(obj, attribute)

    def getitem(self, obj: object, argument: object) -> object:
        return get_field(obj, argument)


_ENVIRONMENT: Final = _Environment(trim_blocks=True, lstrip_blocks=True, finalize=print_value)
_ENVIRONMENT.globals.clear()
_ENVIRONMENT.filters = {**FILTERS, _EACH: iterate}
_ENVIRONMENT.tests = {**TESTS, **OPERATORS}


@lru_cache(maxsize=128)
def compile_template(source: str) -> Template:
    """Compile a template.

    Raises:
        InvalidTemplateError: The source is not written in this language, or costs too much.
    """
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise InvalidTemplateError(f"The template is longer than {MAX_SOURCE_CHARACTERS:,} characters.")
    with translate_errors():
        _inspect_brackets(source)
        tree = _ENVIRONMENT.parse(source)
        steps = _inspect(tree, _Place(frozenset(VARIABLES)))
        if steps > MAX_STEPS:
            raise InvalidTemplateError(
                f"The template takes {steps:,} steps, {MAX_STEPS:,} are allowed; loop over less."
            )
        return Template.from_code(_ENVIRONMENT, _ENVIRONMENT.compile(_Total().visit(tree)), {})


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn every error of Jinja2 and of Python's compiler into InvalidTemplateError."""
    try:
        yield
    except TemplateSyntaxError as error:
        raise InvalidTemplateError(f"Line {error.lineno}: {error.message}") from None
    except (TemplateError, SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidTemplateError(f"The template can't be compiled or rendered ({type(error).__name__}).") from error


class _Total(NodeTransformer):
    """Replacement of each node that could raise at run time by a function of values.py."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 -- Jinja2 names it
        self.generic_visit(node)
        [operand] = node.ops
        return nodes.Test(node.expr, operand.op, [operand.expr], [], None, None, lineno=node.lineno)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, _EACH, [], [], None, None, lineno=node.lineno)
        return node

    def visit_CondExpr(self, node: nodes.CondExpr) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr2 = node.expr2 or nodes.Const(None, lineno=node.lineno)
        return node


def _build_error(node: nodes.Node, message: str) -> InvalidTemplateError:
    return InvalidTemplateError(f"Line {node.lineno}: {message}")


def _inspect_brackets(source: str) -> None:
    depth = 0
    for line, kind, value in _ENVIRONMENT.lex(source):
        if kind == "operator":
            depth += (value in "([{") - (value in ")]}")
        if depth > MAX_BRACKETS:
            raise InvalidTemplateError(f"Line {line}: more than {MAX_BRACKETS} brackets in each other.")


@dataclass(frozen=True, slots=True)
class _Place:
    """Surroundings of a node: the names it may use, the loops around it, its depth in the tree."""

    names: frozenset[str]
    loops: int = 0
    depth: int = 0


def _inspect(node: nodes.Node, place: _Place) -> int:
    """Return the most steps that a node and all nodes below it take; refuse nodes without a rule."""
    rule = _RULES.get(type(node))
    if rule is None:
        raise _build_error(node, f"a prompt template can't use {type(node).__name__.lower()}.")
    if place.depth > MAX_DEPTH:
        raise _build_error(node, f"more than {MAX_DEPTH} things in each other.")
    rule(node, place)
    own = MAX_ITEMS**place.loops if isinstance(node, nodes.Expr) else 0
    return own + sum(_inspect(child, below) for child, below in _children(node, place))


def _children(node: nodes.Node, place: _Place) -> Iterator[tuple[nodes.Node, _Place]]:
    below = replace(place, depth=place.depth + 1)
    if isinstance(node, nodes.For) and isinstance(node.target, nodes.Name):
        item = replace(below, loops=place.loops + 1, names=place.names | {node.target.name})
        body = replace(item, names=item.names | {"loop"})
        yield node.iter, below
        yield from ((child, body) for child in node.body)
        yield from ((child, below) for child in node.else_)
        if node.test:
            yield node.test, item
    elif isinstance(node, nodes.If):
        # To Python each elif stands inside the one before.
        yield from ((child, replace(below, depth=below.depth + len(node.elif_))) for child in node.iter_child_nodes())
    else:
        yield from ((child, below) for child in node.iter_child_nodes())


def _anything(node: nodes.Node, place: _Place) -> None:
    """Accept the node; its children are inspected on their own."""


def _known_name(node: nodes.Name, place: _Place) -> None:
    if node.name not in place.names:
        raise _build_error(node, f"there is no variable {node.name!r}; there are {', '.join(sorted(place.names))}.")


def _small_constant(node: nodes.Const, _: _Place) -> None:
    if not is_scalar(node.value):
        raise _build_error(node, "the number is too large.")


def _constants_only(node: nodes.List | nodes.Tuple, _: _Place) -> None:
    if not all(isinstance(item, nodes.Const) for item in node.items):
        raise _build_error(node, "a list may hold constants only.")


def _single_comparison(node: nodes.Compare, _: _Place) -> None:
    if len(node.ops) != 1:
        raise _build_error(node, "comparisons can't be chained; join two with `and`.")


def _shallow_loop(node: nodes.For, place: _Place) -> None:
    if place.loops == MAX_LOOPS:
        raise _build_error(node, f"loops can be {MAX_LOOPS} deep, no deeper.")
    if node.recursive:
        raise _build_error(node, "a loop can't be recursive.")
    if not isinstance(node.target, nodes.Name) or node.target.name in _TAKEN_NAMES:
        raise _build_error(node, "a loop needs one name of its own.")


def _known_function(functions: Mapping[str, Callable[..., object]], node: nodes.Filter | nodes.Test) -> None:
    kind = type(node).__name__.lower()
    function = functions.get(node.name)
    if function is None:
        raise _build_error(node, f"there is no {kind} {node.name!r}; there are {', '.join(functions)}.")
    if node.dyn_args or node.dyn_kwargs:
        raise _build_error(node, f"the arguments of {kind} {node.name!r} must be written out.")
    try:
        inspect.signature(function).bind(None, *node.args, **{str(pair.key): None for pair in node.kwargs})
    except TypeError as error:
        raise _build_error(node, f"{kind} {node.name!r}: {error}.") from None


# Every other node is refused: calls, arithmetic, text building (~, +, *), set, macro, include, slices and the like.
_RULES: Final[Mapping[type[nodes.Node], Callable[[Any, _Place], None]]] = {
    nodes.And: _anything,
    nodes.Compare: _single_comparison,
    nodes.CondExpr: _anything,
    nodes.Const: _small_constant,
    nodes.Filter: lambda node, _: _known_function(FILTERS, node),
    nodes.For: _shallow_loop,
    nodes.Getattr: _anything,
    nodes.Getitem: _anything,
    nodes.If: _anything,
    nodes.Keyword: _anything,
    nodes.List: _constants_only,
    nodes.Name: _known_name,
    nodes.Not: _anything,
    nodes.Operand: _anything,
    nodes.Or: _anything,
    nodes.Output: _anything,
    nodes.Template: _anything,
    nodes.TemplateData: _anything,
    nodes.Test: lambda node, _: _known_function(TESTS, node),
    nodes.Tuple: _constants_only,
}
