"""Faults from the syntax of the code: small changes of expressions, drawn at random."""

import ast
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from mutation.faults import ROOT, Fault

PLAIN = {"notebooks", "conf"}
"""Folders without code that tests reach by name."""
COMPARED = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
}  # fmt: skip
REVERSED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "/"}
OTHER_AXIS = {0: "1", 1: "0", -1: "0", -2: "-1", 2: "1"}

Change = tuple[ast.expr, str, str]
"""The node that is replaced, by which text, and the kind of change."""


class Source:
    """A file's text, and where its nodes are."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def place(self, line: int, column: int) -> int:
        """Place in the text of a node's (line, column): ``ast`` counts columns in bytes."""
        within = self.lines[line - 1].encode()[:column].decode()
        return self.starts[line - 1] + len(within)

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Where a node begins and ends."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = self.place(node.lineno, node.col_offset)
        return begin, self.place(node.end_lineno, node.end_col_offset)

    def of(self, node: ast.expr) -> str:
        """A node's text, in brackets where it may fall apart in another place."""
        begin, end = self.span(node)
        simple = isinstance(node, ast.Name | ast.Constant | ast.Call | ast.Attribute | ast.Subscript)
        text = self.text[begin:end]
        return text if simple else f"({text})"


def of_operators(node: ast.AST, source: Source) -> Iterator[Change]:
    """Comparisons and signs."""
    match node:
        case ast.Compare(left, [op], [right]) if type(op) in COMPARED:
            yield node, f"{source.of(left)} {COMPARED[type(op)]} {source.of(right)}", "comparison"
        case ast.BinOp(left, op, right) if type(op) in REVERSED:
            yield node, f"{source.of(left)} {REVERSED[type(op)]} {source.of(right)}", "sign"
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield node, source.of(operand), "sign"


def of_constants(node: ast.AST) -> Iterator[Change]:
    """Numbers and truths."""
    match node:
        case ast.Constant(bool(value)):
            yield node, str(not value), "constant"
        case ast.Constant(int(value)):
            yield node, str(value + 1), "constant"
        case ast.Constant(float(value)):
            yield node, f"({value!r} * 1.25 + 0.01)", "constant"


def of_calls(node: ast.AST, source: Source) -> Iterator[Change]:
    """Axes, dropped calls, swapped arguments, keys."""
    if not isinstance(node, ast.Call):
        return
    called = ast.unparse(node.func)
    for keyword in node.keywords:
        match keyword:
            case ast.keyword("axis", ast.Constant(int(axis)) as value) if axis in OTHER_AXIS:
                yield value, OTHER_AXIS[axis], "axis"
            case ast.keyword("axis", ast.UnaryOp(ast.USub(), ast.Constant(int(axis))) as value):
                yield value, OTHER_AXIS.get(-axis, "0"), "axis"
    match node.args:
        case [only] if not node.keywords and not isinstance(only, ast.Starred | ast.GeneratorExp):
            yield node, source.of(only), "dropped call"
        case [] if isinstance(node.func, ast.Attribute) and not node.keywords:
            yield node, source.of(node.func.value), "dropped call"
        case [first, second, *_] if not isinstance(first, ast.Starred):
            if called.endswith("fold_in"):
                yield node, source.of(first), "key"
            elif not isinstance(second, ast.Starred) and ast.dump(first) != ast.dump(second):
                begin, middle = source.span(first)
                after, end = source.span(second)
                rest = source.text[end : source.span(node)[1]]
                head = source.text[source.span(node)[0] : begin]
                between = source.text[middle:after]
                text = f"{head}{source.text[after:end]}{between}{source.text[begin:middle]}{rest}"
                yield node, text, "swapped arguments"


def code(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes that compute something: no annotation, no message, no formatted text."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        yield node
        for field, child in ast.iter_fields(node):
            if field in ("annotation", "returns", "exc", "decorator_list", "bases"):
                continue
            children = child if isinstance(child, list) else [child]
            stack += [c for c in children if isinstance(c, ast.AST) and not isinstance(c, ast.JoinedStr)]


def changes(text: str) -> Iterator[Change]:
    """Every change of a file that is known here."""
    source = Source(text)
    for node in code(ast.parse(text)):
        yield from of_operators(node, source)
        yield from of_constants(node)
        yield from of_calls(node, source)


def all_of(file: Path, root: Path = ROOT) -> list[Fault]:
    """Every fault that the syntax of a file allows, in the order of places."""
    text = file.read_text()
    source = Source(text)
    spans = [(source.span(node), now, kind) for node, now, kind in changes(text)]
    name = str(file.relative_to(root))
    return sorted(Fault(name, b, text[b:e], now, kind) for (b, e), now, kind in spans)


def possible(fault: Fault, root: Path) -> bool:
    """Whether the file can still be read: a text that is put elsewhere may need brackets there."""
    try:
        ast.parse(fault.put((root / fault.file).read_text()))
    except SyntaxError:
        return False
    return True


def drawn(count: int, seed: int, root: Path = ROOT) -> list[Fault]:
    """Faults of the whole package, drawn at random, of each kind as many while there are some.

    A larger draw begins with the smaller one of the same seed.
    """
    chance = random.Random(seed)
    pools: dict[str, list[Fault]] = {}
    for path in sorted((root / "sparse_rl").rglob("*.py")):
        if not PLAIN & set(path.relative_to(root).parts):
            for fault in all_of(path, root):
                pools.setdefault(fault.gives, []).append(fault)
    for kind in sorted(pools):
        chance.shuffle(pools[kind])
    turns = itertools.zip_longest(*(pools[kind] for kind in sorted(pools)))
    drawn_so = (fault for turn in turns for fault in turn if fault is not None)
    return list(itertools.islice((fault for fault in drawn_so if possible(fault, root)), count))
