"""Small faults that could have been made in a Python file: what `mutation.py` puts to the tests.

Promise: a mutant changes one place of a file, line numbers stay, and the result compiles. What
nobody would notice is left alone: docstrings, annotations, assertions, the texts and arguments of
errors, warnings and log lines. A sample is spread over the files in proportion to their lines of
code, and the same for every run with one seed.
"""

from __future__ import annotations

import ast
import copy
import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
OTHER_NAME = {
    **{"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"},
    **{"floor": "ceil", "ceil": "floor", "argmin": "argmax", "argmax": "argmin"},
    **{"startswith": "endswith", "endswith": "startswith", "zeros": "ones", "ones": "zeros"},
}
UNORDERED = {"isinstance", "issubclass", "min", "max"}
"""Functions whose arguments can't be swapped, or may be."""
SILENT = {"logger", "logging", "warnings"}
"""Whose calls say something to people and change nothing."""

Span = tuple[int, int]
Edit = tuple[str, ast.AST, str]
"""Operator, the node that is replaced, and by what."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault.

    Attributes:
        file: path from the root of the tree.
        where: the function or class it is in, dotted; empty at the top.
        line: its first line, from 1.
        last_line: its last.
        operator: the kind of fault.
        before: the code that is there.
        after: what stands there instead.
        span: bytes of the file that are replaced.
        nth: which one, where the same fault fits several times into one function.
    """

    file: str
    where: str
    line: int
    last_line: int
    operator: str
    before: str
    after: str
    span: Span
    nth: int

    @property
    def key(self) -> str:
        """What names it after edits elsewhere in the file, too."""
        nth = f" #{self.nth + 1}" if self.nth else ""
        return f"{self.file}:{self.where}: {self.operator}: {self.before} -> {self.after}{nth}"

    def applied(self, source: bytes) -> bytes:
        """The file with the fault in it."""
        start, stop = self.span
        gone = source[start:stop].count(b"\n") - self.after.encode().count(b"\n")
        return source[:start] + self.after.encode() + b"\\\n" * gone + source[stop:]


def mutants_of(file: str, source: bytes, *, errors: Iterable[str] = ()) -> list[Mutant]:
    """Every mutant of a file, in the order of its places.

    Args:
        file: path from the root of the tree.
        source: its content.
        errors: names whose calls make an error: their arguments are texts for people.
    """
    begins = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    found: list[Mutant] = []
    count: dict[tuple[str, ...], int] = {}
    seen: set[tuple[Span, str]] = set()
    for where, (operator, node, after) in _edits(ast.parse(source), (), frozenset(errors)):
        span = _span(node, begins)
        before = " ".join(source[slice(*span)].decode().split())
        if (span, after) in seen or after == before:
            continue
        seen.add((span, after))
        same = (where, operator, before, after)
        nth = count[same] = count.get(same, -1) + 1
        found.append(
            Mutant(
                file=file,
                where=where,
                line=bisect_right(begins, span[0]),
                last_line=bisect_right(begins, span[1] - 1),
                operator=operator,
                before=before,
                after=after,
                span=span,
                nth=nth,
            )
        )
    return sorted(found, key=lambda mutant: mutant.span)


def _span(node: ast.AST, begins: list[int]) -> Span:
    """Bytes of a node; of a handler's or block's body, if that is what is replaced."""
    first, last = (node, node)
    if isinstance(node, ast.ExceptHandler):
        first, last = node.body[0], node.body[-1]
    elif isinstance(node, ast.With):
        last = node.items[-1].context_expr
    start = begins[first.lineno - 1] + first.col_offset  # type: ignore[attr-defined]
    stop = begins[last.end_lineno - 1] + last.end_col_offset  # type: ignore[attr-defined]
    return start, stop


def _edits(
    node: ast.AST, path: tuple[str, ...], errors: frozenset[str]
) -> Iterator[tuple[str, Edit]]:
    """Edits of a node and of all in it, with the function they are in."""
    if isinstance(node, ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.Call | ast.Expr) and _is_silent(node, errors):
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    for edit in _here(node, at_top=not path):
        yield ".".join(path), edit
    if isinstance(node, ast.Raise):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        path = (*path, node.name)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _edits(child, path, errors)


def _is_silent(node: ast.Call | ast.Expr, errors: frozenset[str]) -> bool:
    call = node.value if isinstance(node, ast.Expr) else node
    if not isinstance(call, ast.Call):
        return False
    words = ast.unparse(call.func).split(".")
    return words[0] in SILENT or words[-1] in errors


def _here(node: ast.AST, *, at_top: bool) -> Iterator[Edit]:
    """Edits of the node itself."""
    match node:
        case ast.Compare():
            yield from _comparisons(node)
        case ast.BoolOp():
            swapped = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
            yield "and/or", node, _text(node, op=swapped)
            for i in range(len(node.values)):
                rest = node.values[:i] + node.values[i + 1 :]
                kept = _text(node, values=rest) if len(rest) > 1 else _paren(rest[0])
                yield "dropped condition", node, kept
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "dropped sign", node, _paren(node.operand)
        case ast.BinOp() if not (_is_text(node.left) or _is_text(node.right)):
            other = ARITHMETIC.get(type(node.op))
            if other and not (at_top and isinstance(node.op, ast.BitOr)):  # a union of types
                yield "arithmetic", node, _text(node, op=other())
        case ast.AugAssign():
            if other := ARITHMETIC.get(type(node.op)):
                yield "arithmetic", node, _text(node, op=other())[1:-1]
            yield "dropped statement", node, "pass"
        case ast.Constant():
            yield from _constants(node)
        case ast.Call():
            yield from _calls(node)
        case ast.Raise():
            yield "dropped raise", node, "pass"
        case ast.Continue() | ast.Break():
            yield "dropped statement", node, "pass"
        case ast.Delete():
            yield "dropped statement", node, "pass"
        case ast.Expr(value=ast.Call()):
            yield "dropped statement", node, "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield "dropped statement", node, "pass"
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "returned None", value, "None"
        case ast.ExceptHandler() if ast.unparse(node.body[0]) != "raise":
            yield "error let through", node, "raise"
        case ast.With(items=[ast.withitem(optional_vars=None)]):
            yield "dropped with", node, "if True"
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield from _tests(node.test)
    for generator in getattr(node, "generators", ()):
        for test in generator.ifs:
            yield "dropped filter", test, "True"


def _comparisons(node: ast.Compare) -> Iterator[Edit]:
    for i, op in enumerate(node.ops):
        tables = [BOUNDARY] if len(node.ops) > 1 else [BOUNDARY, OPPOSITE]
        for table in tables:
            if other := table.get(type(op)):
                ops = [*node.ops[:i], other(), *node.ops[i + 1 :]]
                yield "comparison", node, _text(node, ops=ops)


def _constants(node: ast.Constant) -> Iterator[Edit]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", node, repr(not value)
    elif isinstance(value, int):
        yield "off by one", node, repr(value + 1)
        if value > 0:
            yield "off by one", node, repr(value - 1)
    elif isinstance(value, float):
        yield "constant", node, repr(2 * value or 1.0)


def _calls(node: ast.Call) -> Iterator[Edit]:
    """Edits of a call; not those that could only end in a `TypeError` on the spot."""
    args, name = node.args, ast.unparse(node.func).rpartition(".")[2]
    plain = not any(isinstance(a, ast.Starred) or _is_text(a) for a in args[:2])
    if len(args) > 1 and plain and name not in UNORDERED:
        yield "swapped arguments", node, _text(node, args=[args[1], args[0], *args[2:]])
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None and not name[:1].isupper():  # a class needs most of them
            rest = node.keywords[:i] + node.keywords[i + 1 :]
            yield "dropped keyword", node, _text(node, keywords=rest)
    match node.func:
        case ast.Name() if name in OTHER_NAME:
            yield "another function", node.func, OTHER_NAME[name]
        case ast.Attribute() if name in OTHER_NAME:
            yield "another function", node.func, _text(node.func, attr=OTHER_NAME[name])


def _tests(test: ast.expr) -> Iterator[Edit]:
    """A condition turned round, where no other operator does it."""
    if not isinstance(test, ast.Compare) and not (
        isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    ):
        yield "turned condition", test, f"(not {_paren(test)})"


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _text(node: ast.AST, **changes: object) -> str:
    """The code of a node after changes to its fields, in parentheses."""
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return _paren(changed)


def _paren(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


def code_lines(source: bytes) -> int:
    """Lines on which a statement begins, docstrings not counted."""
    nodes = ast.walk(ast.parse(source))
    return len({n.lineno for n in nodes if isinstance(n, ast.stmt) and not _is_docstring(n)})


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and _is_text(node.value)


def sample(
    sources: Mapping[str, bytes], count: int, seed: int, *, errors: Iterable[str] = ()
) -> list[Mutant]:
    """About `count` mutants, files by their lines of code, within a file lines by chance.

    Args:
        sources: content by path.
        count: how many; fewer where a file has fewer than its share.
        seed: another one draws others.
        errors: see `mutants_of`.
    """
    rng = random.Random(seed)
    files = sorted(sources)
    ends = list(accumulate(code_lines(sources[file]) for file in files))
    step = ends[-1] / count
    points = [(i + rng.random()) * step for i in range(count)]
    chosen: list[Mutant] = []
    for place, file in enumerate(files):
        share = sum(bisect_right(ends, point) == place for point in points)
        if share:
            possible = mutants_of(file, sources[file], errors=errors)
            chosen += _drawn(possible, sources[file], share, rng)
    return chosen


def _drawn(mutants: list[Mutant], source: bytes, count: int, rng: random.Random) -> list[Mutant]:
    """Mutants that compile, each on a line of its own as long as there are lines."""
    by_line: dict[int, list[Mutant]] = {}
    for mutant in mutants:
        by_line.setdefault(mutant.line, []).append(mutant)
    chosen: list[Mutant] = []
    while by_line and len(chosen) < count:
        for line in rng.sample(sorted(by_line), len(by_line)):
            mutant = by_line[line].pop(rng.randrange(len(by_line[line])))
            if not by_line[line]:
                del by_line[line]
            if len(chosen) < count and compiles(mutant, source):
                chosen.append(mutant)
    return sorted(chosen, key=lambda mutant: mutant.span)


def compiles(mutant: Mutant, source: bytes) -> bool:
    """Whether the file with the fault is Python, and another program than before."""
    try:
        tree = ast.parse(mutant.applied(source))
        compile(tree, mutant.file, "exec")
    except (SyntaxError, ValueError):
        return False
    return ast.dump(tree) != ast.dump(ast.parse(source))
