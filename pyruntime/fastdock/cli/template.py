"""Go templates, as far as people write them after ``--format``: text/template's language over plain data.

Actions: pipelines, if/else if/else, range, with, variables, comments, trim markers.  Functions: those of Docker
(json, join, split, title, lower, upper, pad, truncate, table) and text/template's own.  Data are dicts, lists and
scalars; a dict's value may be a function, called with the arguments that follow it (``{{.Label "x"}}``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fastdock._errors import SpecError
from fastdock.cli.template_functions import FUNCTIONS, is_true, show

_ACTION = re.compile(r"\{\{(-(?=\s))?(.*?)((?<=\s)-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    | (?P<char>'(?:[^'\\]|\\.)+')
    | (?P<number>[+-]?(?:0x[0-9A-Fa-f]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))
    | (?P<field>(?:\.[^\W\d]\w*)+)
    | (?P<variable>\$\w*)
    | (?P<word>[^\W\d]\w*)
    | (?P<symbol>:=|=|\||\(|\)|,|\.)
    )""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b"}

Scope = dict[str, Any]
Node = Callable[[Any, Scope, list[str]], None]
Value = Callable[[Any, Scope], Any]


class TemplateError(SpecError):
    """A template that cannot be parsed, or not be filled from the data at hand."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A parsed template; raises TemplateError where it is malformed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = list(_split(text))
        self._position = 0
        self._root, end = self._block(())
        if end:
            raise TemplateError(f"template: unexpected {{{{{end}}}}}")

    def render(self, data: Any) -> str:
        """The template filled with ``data``; TemplateError where a field is missing or a value does not fit."""
        output: list[str] = []
        try:
            self._root(data, {"$": data}, output)
        except (_Break, _Continue):
            raise TemplateError("template: break or continue outside of range") from None
        except RecursionError:
            raise TemplateError("template: nested too deeply") from None
        return "".join(output)

    def _block(self, ends: tuple[str, ...]) -> tuple[Node, str]:
        """Nodes up to one of the ``ends``; that action's text."""
        nodes: list[Node] = []
        while self._position < len(self._parts):
            is_action, text = self._parts[self._position]
            self._position += 1
            if not is_action:
                nodes.append(_text_node(text))
                continue
            word = text.split(None, 1)[0] if text else ""
            if word in ("end", "else"):
                if word not in ends:
                    raise TemplateError(f"template: unexpected {{{{{word}}}}}")
                return _sequence(nodes), text
            nodes.append(self._action(word, text[len(word) :].strip(), text))
        if ends:
            raise TemplateError("template: unexpected end of template: an {{end}} is missing")
        return _sequence(nodes), ""

    def _action(self, word: str, rest: str, text: str) -> Node:
        if word in ("if", "with", "range"):
            return self._branch(word, rest)
        if word in ("break", "continue") and not rest:
            return _jump(_Break if word == "break" else _Continue)
        if word in ("define", "template", "block"):
            raise TemplateError(f"template: {word} is not supported here")
        pipeline = _Pipeline(text)
        return _output_node(pipeline)

    def _branch(self, word: str, rest: str) -> Node:
        pipeline = _Pipeline(rest)
        body, end = self._block(("end", "else"))
        otherwise: Node = _sequence([])
        if end != "end":
            following = end[4:].strip()
            if following:  # else if
                kind, _, condition = following.partition(" ")
                if kind not in ("if", "with") or word == "range":
                    raise TemplateError(f"template: unexpected {{{{{end}}}}}")
                otherwise = self._branch(kind, condition)
            else:
                otherwise, _ = self._block(("end",))
        make = {"if": _if_node, "with": _with_node, "range": _range_node}[word]
        return make(pipeline, body, otherwise)


def render(text: str, data: Any) -> str:
    """Parses and fills a template at once."""
    return Template(text).render(data)


def _split(text: str) -> Iterator[tuple[bool, str]]:
    """(is it an action, its text), with trim markers applied and comments left out."""
    position, trim = 0, False
    for match in _ACTION.finditer(text):
        before = text[position : match.start()]
        before = before.lstrip() if trim else before
        if match[1]:
            before = before.rstrip()
        if before:
            yield False, before
        action = match[2].strip()
        if not (action.startswith("/*") and action.endswith("*/")):
            yield True, action
        position, trim = match.end(), bool(match[3])
    rest = text[position:].lstrip() if trim else text[position:]
    if "{{" in rest:
        raise TemplateError("template: unclosed action")
    if rest:
        yield False, rest


# -- nodes -------------------------------------------------------------------------------------------------


def _text_node(text: str) -> Node:
    return lambda dot, scope, output: output.append(text)


def _sequence(nodes: Sequence[Node]) -> Node:
    def run(dot: Any, scope: Scope, output: list[str]) -> None:
        for node in nodes:
            node(dot, scope, output)

    return run


def _jump(kind: type[Exception]) -> Node:
    def run(dot: Any, scope: Scope, output: list[str]) -> None:
        raise kind

    return run


def _output_node(pipeline: _Pipeline) -> Node:
    def run(dot: Any, scope: Scope, output: list[str]) -> None:
        value = pipeline.evaluate(dot, scope)
        if pipeline.names:
            pipeline.bind(scope, value)
        else:
            output.append(show(value))

    return run


def _if_node(pipeline: _Pipeline, body: Node, otherwise: Node) -> Node:
    def run(dot: Any, scope: Scope, output: list[str]) -> None:
        inner = _Nested(scope)
        value = pipeline.evaluate(dot, inner)
        pipeline.bind(inner, value)
        (body if is_true(value) else otherwise)(dot, inner, output)

    return run


def _with_node(pipeline: _Pipeline, body: Node, otherwise: Node) -> Node:
    def run(dot: Any, scope: Scope, output: list[str]) -> None:
        inner = _Nested(scope)
        value = pipeline.evaluate(dot, inner)
        pipeline.bind(inner, value)
        if is_true(value):
            body(value, inner, output)
        else:
            otherwise(dot, inner, output)

    return run


def _range_node(pipeline: _Pipeline, body: Node, otherwise: Node) -> Node:
    def run(dot: Any, scope: Scope, output: list[str]) -> None:
        items = _items(pipeline.evaluate(dot, scope))
        if not items:
            otherwise(dot, scope, output)
        for key, value in items:
            inner = _Nested(scope)
            if len(pipeline.names) == 2:
                inner[pipeline.names[0]], inner[pipeline.names[1]] = key, value
            elif pipeline.names:
                inner[pipeline.names[0]] = value
            try:
                body(value, inner, output)
            except _Continue:
                continue
            except _Break:
                break

    return run


def _items(value: Any) -> list[tuple[Any, Any]]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        return sorted(value.items(), key=lambda item: str(item[0]))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        if value > 1_000_000:
            raise TemplateError(f"template: range over {value} is too much")
        return [(number, number) for number in range(value)]
    raise TemplateError(f"template: range can't iterate over {show(value)}")


class _Nested(Scope):
    """Variables of an inner block; assignments reach outer ones."""

    def __init__(self, outer: Scope) -> None:
        super().__init__(outer)
        self._outer = outer

    def assign(self, name: str, value: Any) -> None:
        self[name] = value
        outer = self._outer
        if name in outer:
            if isinstance(outer, _Nested):
                outer.assign(name, value)
            else:
                outer[name] = value


# -- pipelines ---------------------------------------------------------------------------------------------


class _Pipeline:
    """``[$a[, $b] :=] command | command …``"""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokenize(text))
        self._at = 0
        self.names: list[str] = []
        self._declares = True
        self._declaration()
        self._value = self._pipe()
        if self._at < len(self._tokens):
            raise TemplateError(f"template: unexpected {self._tokens[self._at][1]!r} in {{{{{text}}}}}")

    def evaluate(self, dot: Any, scope: Scope) -> Any:
        return self._value(dot, scope)

    def bind(self, scope: Scope, value: Any) -> None:
        for name in self.names[-1:]:
            if not self._declares and isinstance(scope, _Nested):
                scope.assign(name, value)
            else:
                scope[name] = value

    def _declaration(self) -> None:
        names, at = [], 0
        while at < len(self._tokens) and self._tokens[at][0] == "variable":
            names.append(self._tokens[at][1])
            following = self._tokens[at + 1][1] if at + 1 < len(self._tokens) else ""
            if following in (":=", "="):
                self.names, self._at, self._declares = names, at + 2, following == ":="
                return
            if following != ",":
                return
            at += 2

    def _peek(self) -> tuple[str, str]:
        """Kind and text of the next token; empty at the end."""
        return self._tokens[self._at][:2] if self._at < len(self._tokens) else ("", "")

    def _pipe(self) -> Value:
        value = self._command(None)
        while self._peek()[1] == "|" and self._peek()[0] == "symbol":
            self._at += 1
            value = self._command(value)
        return value

    def _command(self, piped: Value | None) -> Value:
        """A function or field with its arguments; what is piped in comes last."""
        kind, text = self._peek()
        function = FUNCTIONS.get(text) if kind == "word" else None
        if kind == "word" and function is None and text not in ("true", "false", "nil"):
            raise TemplateError(f'template: function "{text}" not defined')
        if function is not None:
            self._at += 1
            head: Value | None = None
        else:
            head = self._operand()
        arguments: list[Value] = []
        while self._peek()[0] and self._peek() not in (("symbol", "|"), ("symbol", ")")):
            arguments.append(self._operand())
        if piped is not None:
            arguments.append(piped)
        if function is not None:
            return _call(text, function, arguments)
        assert head is not None
        return _call_value(self._text, head, arguments) if arguments else _nullary(head)

    def _operand(self) -> Value:
        kind, text = self._peek()
        self._at += 1
        value: Value
        if kind == "string":
            literal = text[1:-1] if text[0] == "`" else _unquote(text[1:-1])
            value = lambda dot, scope: literal  # noqa: E731
        elif kind == "char":
            code = ord(_unquote(text[1:-1])[0])
            value = lambda dot, scope: code  # noqa: E731
        elif kind == "number":
            number = float(text) if re.search(r"[.eE]", text) and "x" not in text else int(text, 0)
            value = lambda dot, scope: number  # noqa: E731
        elif kind == "field":
            return _fields(lambda dot, scope: dot, text)
        elif kind == "variable":
            value = _variable(text)
        elif kind == "word" and text in ("true", "false", "nil"):
            constant = {"true": True, "false": False, "nil": None}[text]
            return lambda dot, scope: constant
        elif kind == "word" and text in FUNCTIONS:
            return _call(text, FUNCTIONS[text], [])
        elif text == ".":
            return lambda dot, scope: dot
        elif text == "(":
            value = self._pipe()
            if self._peek()[1] != ")":
                raise TemplateError(f"template: unclosed parenthesis in {{{{{self._text}}}}}")
            self._at += 1
        else:
            raise TemplateError(
                f"template: {'missing value' if not kind else f'unexpected {text!r}'} in {{{{{self._text}}}}}"
            )
        if self._peek()[0] == "field" and self._adjoins():
            _, path = self._peek()
            self._at += 1
            return _fields(value, path)
        return value

    def _adjoins(self) -> bool:
        """Whether the next token follows the last without a blank: ``$x.Name`` but not ``$x .Name``."""
        return self._tokens[self._at].start == self._tokens[self._at - 1].end


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def _tokenize(text: str) -> Iterator[_Token]:
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise TemplateError(f"template: unexpected {text[position:].strip()[:20]!r} in {{{{{text}}}}}")
        kind = str(match.lastgroup)
        yield _Token(kind, match[kind], match.start(kind), match.end(kind))
        position = match.end()


def _unquote(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1][0] in "xuU":
            return chr(int(match[1][1:], 16))
        return _ESCAPES.get(match[1], match[1])

    return re.sub(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", replace, text)


def _variable(name: str) -> Value:
    def get(dot: Any, scope: Scope) -> Any:
        if name not in scope:
            raise TemplateError(f"template: undefined variable {name!r}")
        return scope[name]

    return get


# The members of Docker's documents that are maps in Go, not structures: a key that they lack is no error.
_MAPS = {"Annotations", "Attributes", "ExposedPorts", "Labels", "Networks", "Options", "PortBindings", "Ports",
         "Sysctls", "Tmpfs", "Volumes"}  # fmt: skip


# What Docker's structures have and their JSON leaves out where it is empty: the member, another one of the same
# structure, and what it is then.
_OMITTED = {
    "Health": ("Running", None),
    "Healthcheck": ("StopSignal", None),
    "Name": ("Destination", ""),
    "Driver": ("Destination", ""),
}


def _fields(base: Value, path: str) -> Value:
    names = path[1:].split(".")

    def get(dot: Any, scope: Scope) -> Any:
        value = base(dot, scope)
        for number, name in enumerate(names):
            value = value() if callable(value) and number else value
            if number and names[number - 1] in _MAPS and (value is None or name not in value):
                value = None
                continue
            if type(value) is not dict and not isinstance(value, Mapping):
                raise TemplateError(
                    f"template: executing at <{path}>: can't evaluate field {name} in {show(value)}"
                )
            if name not in value:
                companion, empty = _OMITTED.get(name, (None, None))
                if companion in value:
                    value = empty
                    continue
                raise TemplateError(f'template: executing at <{path}>: no entry for key "{name}"')
            value = value[name]
        return value

    return get


def _nullary(value: Value) -> Value:
    def get(dot: Any, scope: Scope) -> Any:
        found = value(dot, scope)
        return found() if callable(found) else found

    return get


def _call_value(text: str, head: Value, arguments: Sequence[Value]) -> Value:
    def call(dot: Any, scope: Scope) -> Any:
        function = head(dot, scope)
        if not callable(function):
            raise TemplateError(f"template: can't give argument to non-function in {{{{{text}}}}}")
        return function(*(argument(dot, scope) for argument in arguments))

    return call


def _call(name: str, function: Callable[..., Any], arguments: Sequence[Value]) -> Value:
    def call(dot: Any, scope: Scope) -> Any:
        if name in ("and", "or"):  # these stop as soon as they know
            value: Any = None
            for argument in arguments:
                value = argument(dot, scope)
                if is_true(value) == (name == "or"):
                    break
            return value
        values = [_called(argument(dot, scope)) for argument in arguments]
        try:
            return function(*values)
        except TemplateError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise TemplateError(f"template: error calling {name}: {error}") from error

    return call


def _called(value: Any) -> Any:
    return value() if callable(value) else value
