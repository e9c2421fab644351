"""Finds the labels of the result of a PromQL expression, and the names that it reads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import promql_parser as ast

TARGET_LABELS: Final = frozenset({"cluster", "namespace", "job", "pod", "instance"})
"""Labels that Prometheus adds to the series of a pod. A metric's label `namespace` becomes `exported_namespace`."""

Labels = frozenset[str]


class ExpressionError(Exception):
    """The expression reads a series or a label that is not there."""


@dataclass(frozen=True, slots=True)
class Shown:
    """`own`: label names by name of a series, as the operator shows them."""

    own: Mapping[str, Labels]

    def labels(self, expression: str) -> Labels:
        """Those that may be on the result. Raises ExpressionError."""
        return self._of(ast.parse(expression))

    def _of(self, node: ast.Expr) -> Labels:
        match node:
            case ast.VectorSelector():
                return self._selected(node)
            case ast.MatrixSelector():
                return self._of(node.vector_selector)
            case ast.SubqueryExpr() | ast.ParenExpr() | ast.UnaryExpr():
                return self._of(node.expr)
            case ast.AggregateExpr():
                return self._aggregated(node)
            case ast.BinaryExpr():
                return self._joined(node)
            case ast.Call():
                return self._called(node)
            case ast.NumberLiteral():
                return frozenset()
        raise ExpressionError(f"{type(node).__name__} is not expected here")

    def _selected(self, node: ast.VectorSelector) -> Labels:
        if node.name is None or node.name not in self.own:
            raise ExpressionError(f"the operator shows no {node.name}")
        own = self.own[node.name]
        labels = TARGET_LABELS | (own - {"namespace"}) | ({"exported_namespace"} if "namespace" in own else set())
        _check({matcher.name for matcher in node.matchers.matchers}, labels, node)
        return frozenset(labels)

    def _aggregated(self, node: ast.AggregateExpr) -> Labels:
        inner = self._of(node.expr)
        if node.modifier is None:
            return frozenset()
        if node.modifier.type != ast.AggModifierType.By:
            raise ExpressionError(f"say by which labels, not without which: {node.prettify()}")
        _check(node.modifier.labels, inner, node)
        return frozenset(node.modifier.labels)

    def _joined(self, node: ast.BinaryExpr) -> Labels:
        left, right = self._of(node.lhs), self._of(node.rhs)
        if str(node.op) == "or" or _is_scalar(node.lhs) or _is_scalar(node.rhs):
            return left | right
        matching = node.modifier.matching if node.modifier else None
        if matching is not None:
            _check(matching.labels, left & right, node)
        elif left != right:
            raise ExpressionError(f"{sorted(left)} never equals {sorted(right)}: {node.prettify()}")
        return left if str(node.op) in {"and", "unless"} or matching is None else frozenset(matching.labels)

    def _called(self, node: ast.Call) -> Labels:
        vectors = [self._of(arg) for arg in node.args]
        if node.func.name in {"absent", "absent_over_time"} or not vectors:
            return frozenset()
        labels = vectors[-1]
        if node.func.name == "histogram_quantile":
            _check({"le"}, labels, node)
            return labels - {"le"}
        return labels


def selectors(expression: str) -> Iterator[ast.VectorSelector]:
    found: list[ast.VectorSelector] = []

    def visit(node: ast.Expr) -> None:
        if isinstance(node, ast.VectorSelector):
            found.append(node)

    ast.walk(ast.parse(expression), visit)
    yield from found


def _is_scalar(node: ast.Expr) -> bool:
    match node:
        case ast.NumberLiteral():
            return True
        case ast.ParenExpr() | ast.UnaryExpr():
            return _is_scalar(node.expr)
        case ast.BinaryExpr():
            return _is_scalar(node.lhs) and _is_scalar(node.rhs)
        case ast.Call():
            return bool(node.func.return_type == ast.ValueType.Scalar)
    return False


def _check(wanted: set[str] | list[str], there: Labels | set[str], node: ast.Expr) -> None:
    unknown = set(wanted) - there
    if unknown:
        raise ExpressionError(f"no label {', '.join(sorted(unknown))} there: {node.prettify()}")
