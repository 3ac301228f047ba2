"""Formulas from strangers: what `allow="terms"` lets through, decided from the text before anything is evaluated.

A factor such as I(x ** 2) is Python, which formulaic evaluates, as patsy does: open(...), __import__(...) and all that
a call can reach would run. In the closed mode a factor is made of columns, numbers, arithmetic, comparisons and the
functions below, nothing else; sizes are bounded too, so that a short text cannot ask for a huge design.
"""

import ast
import math

from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import ASTNode, Factor
from formulaic.utils.code import sanitize_variable_names

FUNCTIONS = frozenset(["C", "I", "Q", "bs", "cc", "center", "cr", "cs", "exp", "exp10", "exp2", "log", "log10", "log2",
                       "poly", "scale", "standardize"])
OF_MODULES = {"np": frozenset(["abs", "arcsinh", "cos", "exp", "expm1", "log", "log10", "log1p", "log2", "maximum",
                               "minimum", "sign", "sin", "sqrt", "square", "tanh", "where"]),
              "contr": frozenset(["SAS", "diff", "helmert", "poly", "sum", "treatment"])}
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
NUMBERS = {"exp", "exp10", "exp2", "log", "log10", "log2"}            # of numbers, no more: log(x, y) would write in y
BINARY = {"maximum": 2, "minimum": 2, "where": 3}
SPLINES = {"bs", "cc", "cr", "cs", "poly"}                           # which take sizes
BOUNDS = {"x", "lower_bound", "upper_bound"}                         # their arguments that are none
LONGEST, MOST_TERMS, MOST_FACTORS, LARGEST_SIZE = 10_000, 2_000, 8, 100


def check_modes(allow):
    """Refuse what is no mode."""
    if allow not in ("code", "terms"):
        raise ValueError(f"allow={allow!r} is not known: choose 'code' (formulas are Python, from people you trust) or "
                         "'terms' (columns, operators and known functions only).")


def check_size(formula):
    """Refuse texts that expand to very many terms, before they do.

    Raises
    ------
    ValueError
    """
    if len(formula) > LONGEST:
        raise ValueError(f"The formula has {len(formula):,} characters, and allow='terms' takes {LONGEST:,}.")
    if _terms(DefaultFormulaParser().get_ast(formula)) > MOST_TERMS:
        raise ValueError(f"The formula {formula[:80]!r} expands to more than the {MOST_TERMS:,} terms that "
                         "allow='terms' takes.")


def _terms(node):
    """How many terms a part of a formula makes, at most."""
    right = 0
    while isinstance(node, ASTNode) and node.operator.symbol in ("+", "-") and len(node.args) == 2:     # long sums
        node, last = node.args
        right += _terms(last)
    if not isinstance(node, ASTNode):
        return right + 1
    symbol, counts = node.operator.symbol, [_terms(part) for part in node.args]
    if symbol in ("**", "^"):
        power = str(node.args[1])
        if not power.isdigit():
            raise ValueError(f"A power of terms is a whole number, and {power!r} is none that allow='terms' takes.")
        return right + (counts[0] ** int(power) if len(power) < 3 else MOST_TERMS + 1)
    if symbol in ("*", ":", "in", "%in%", "/"):
        return right + min(math.prod(n + (symbol != ":") for n in counts), MOST_TERMS + 1)
    return right + sum(counts)


def check_terms(formula, terms, columns):
    """Refuse factors that are more than columns, numbers, operators and known functions, and terms of very many.

    Raises
    ------
    ValueError
        Naming the part that is not allowed.
    """
    for term in terms:
        if len(term.factors) > MOST_FACTORS:
            raise ValueError(f"The formula {formula[:80]!r} has an interaction of {len(term.factors)} factors, and "
                             f"allow='terms' takes {MOST_FACTORS}.")
    for factor in (factor for term in terms for factor in term.factors):
        refused = _refused_part(factor, columns)
        if refused is not None:
            raise ValueError(f"The formula {formula!r} asks for {refused!r}, which allow='terms' does not take: it "
                             f"takes columns, numbers, operators and the functions {', '.join(sorted(FUNCTIONS))}, and "
                             "some of np and contr.")


def _refused_part(factor, columns):
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        return None if factor.expr in columns else factor.expr
    if factor.eval_method is not Factor.EvalMethod.PYTHON:
        return None
    aliases = {}
    code = ast.parse(sanitize_variable_names(factor.expr, {}, aliases), mode="eval").body
    refused = _refused(code, set(columns) | {alias for alias, name in aliases.items() if name in columns})
    return None if refused is None else ast.unparse(refused)


def _refused(node, columns, argument=False):
    """The first part of an expression that is not allowed, or None; `argument`: it stands in a call."""
    if isinstance(node, ast.Constant):
        return None if _is_small(node.value, argument) else node
    if isinstance(node, ast.Name):
        return None if node.id in columns else node
    if isinstance(node, ast.Call):
        if not _is_known(node.func) or any(k.arg is None for k in node.keywords):
            return node.func
        return _misused(node) or _first([*node.args, *[k.value for k in node.keywords]], columns, True)
    if isinstance(node, (ast.List, ast.Tuple)) and argument:
        return _first(node.elts, columns, True)
    if isinstance(node, ast.BinOp) and isinstance(node.op, OPERATORS):
        return _first([node.left, node.right], columns)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        power = _number(node.right)
        return _refused(node.left, columns) if power is not None and abs(power) <= 16 else node
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
        return _refused(node.operand, columns)
    if isinstance(node, ast.Compare) and all(isinstance(op, COMPARISONS) for op in node.ops):
        return _first([node.left, *node.comparators], columns, True)
    return node


def _first(nodes, columns, argument=False):
    return next((r for r in (_refused(node, columns, argument) for node in nodes) if r is not None), None)


def _misused(call):
    """A call that says where numpy is to write, or a size that is large or not written out; else None."""
    name = getattr(call.func, "attr", None) or call.func.id
    if name in NUMBERS or getattr(call.func, "value", None) is not None and call.func.value.id == "np":
        return call if call.keywords or len(call.args) != BINARY.get(name, 1) else None
    if name in SPLINES and isinstance(call.func, ast.Name):
        sizes = call.args[1:] + [k.value for k in call.keywords if k.arg not in BOUNDS]
        return next((size for size in sizes if not _is_size(size)), None)
    return None


def _is_size(node):
    """Whether an argument of a spline is written out: a small number, a short list, a text or None."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return len(node.elts) <= LARGEST_SIZE
    if (number := _number(node)) is not None:
        return abs(number) <= LARGEST_SIZE
    return isinstance(node, ast.Constant)


def _number(node):
    """A number written with or without a minus, else None."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return None if (inner := _number(node.operand)) is None else -inner
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    return None


def _is_small(value, argument):
    """Texts stand in calls and comparisons only ('a' * 10 ** 9 fills the memory)."""
    if isinstance(value, str):
        return argument
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= 2 ** 53
    return isinstance(value, (bool, float)) or (value is None and argument)


def _is_known(function):
    if isinstance(function, ast.Name):
        return function.id in FUNCTIONS
    return (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
            and function.attr in OF_MODULES.get(function.value.id, ()))
