"""Values of a formula's factors on one frame: formulaic evaluates, codes replace its wide dummy columns."""

import ast
import dataclasses
import re

import numpy as np
import pandas as pd
from formulaic.errors import FactorEvaluationError
from formulaic.materializers.pandas import PandasMaterializer
from formulaic.model_spec import ModelSpec
from formulaic.parser.types import Factor
from formulaic.transforms import TRANSFORMS
from formulaic.utils.cast import as_columns
from formulaic.utils.code import format_expr, sanitize_variable_names
from formulaic.utils.layered_mapping import LayeredMapping
from formulaic.utils.stateful_transforms import stateful_eval
from scipy import sparse

from daskglm_rep.recipes import no_number


@dataclasses.dataclass(frozen=True)
class Call:
    """A stateful transform in a formula, such as scale(x) in "y ~ scale(x) + z".

    Attributes
    ----------
    key : str
        formulaic's key of its state.
    function, argument, rest : str
        Its name, the expression of its first argument, the source of the others.
    """

    key: str
    function: str
    argument: str
    rest: str

    def on(self, name):
        """The call with its first argument replaced."""
        return f"{self.function}({name}{', ' if self.rest else ''}{self.rest})"


def names_of(factor):
    """Names that a factor's expression uses, columns and functions alike, in order of appearance.

    (formulaic's own list is empty for stateful transforms.)
    """
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        return [factor.expr]
    if factor.eval_method is not Factor.EvalMethod.PYTHON:
        return []
    aliases, found = {}, []
    for node in ast.walk(ast.parse(sanitize_variable_names(factor.expr, {}, aliases), mode="eval")):
        if isinstance(node, ast.Name):
            found.append((node.lineno, node.col_offset, aliases.get(node.id, node.id)))
        elif (isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Q"
              and node.args and isinstance(getattr(node.args[0], "value", None), str)):
            found.append((node.lineno, node.col_offset, node.args[0].value))
    return list(dict.fromkeys(name for *_, name in sorted(found)))


def called(factor):
    """Names that a factor's expression calls, log and np of log(x) + np.sqrt(x)."""
    if factor.eval_method is not Factor.EvalMethod.PYTHON:
        return []
    found = [node.func for node in ast.walk(ast.parse(sanitize_variable_names(factor.expr, {}, {}), mode="eval"))
             if isinstance(node, ast.Call)]
    return [name for f in found if (name := getattr(f, "id", getattr(getattr(f, "value", None), "id", None)))]


def stateful_calls(factor, context):
    """Stateful transforms of a factor that learn from data, inner ones first."""
    if factor.eval_method is not Factor.EvalMethod.PYTHON:
        return []
    expression = factor.expr
    env, aliases = LayeredMapping(dict(TRANSFORMS) | dict(context)), {}
    code = ast.parse(sanitize_variable_names(expression, env, aliases, template="{}"), mode="eval")
    found = []
    for node in ast.walk(code):
        if not isinstance(node, ast.Call) or not node.args + node.keywords:
            continue
        function = format_expr(node.func)
        value = TRANSFORMS.get(function, context.get(function))
        if function == "lag":
            raise ValueError(f"{expression!r} needs the rows before each row, which another partition may hold: "
                             "compute the lagged column first.")
        if not getattr(value, "__is_stateful_transform__", False) or function in ("Q", "I"):
            continue
        arguments = [format_expr(a) for a in node.args] + [f"{k.arg}={format_expr(k.value)}" for k in node.keywords]
        first = arguments[0] if node.args else arguments[0].split("=", 1)[1]
        key = format_expr(node).replace('"', r'\\\\"')
        for alias, name in aliases.items():                   # what is evaluated by itself needs its backticks again
            first = re.sub(rf"\b{alias}\b", lambda _: f"`{name}`", first)
        found.append(Call(key, function, first, ", ".join(arguments[1:])))
    return found[::-1]


def evaluable(frame):
    """Columns as formulaic should see them.

    Text as categories: coded once, and formulaic takes no Arrow strings for categories. Numbers of fewer than 64 bits
    widened: 12 ** 2 of one byte is -112, log of it has three digits; unsigned ones as signed, for 1 - 2 would be huge.
    """
    types = {c: "category" if isinstance(dtype, pd.StringDtype) else _wide(dtype) for c, dtype in frame.dtypes.items()}
    types = {c: dtype for c, dtype in types.items() if dtype is not None}
    return frame.astype(types) if types else frame


def _wide(dtype):
    """The type of 64 bits for a narrower number, None for others; unsigned ones of 64 bits may not fit: they stay."""
    kind, size = getattr(dtype, "kind", "O"), getattr(dtype, "itemsize", 8)
    if kind not in "iuf" or size >= 8:
        return None
    name = "float64" if kind == "f" else "int64"
    if isinstance(dtype, pd.ArrowDtype):
        return f"{'double' if kind == 'f' else name}[pyarrow]"
    if isinstance(dtype, np.dtype):
        return name
    return name.capitalize() if dtype.na_value is pd.NA else None


class Evaluator:
    """Factors of a formula on one frame.

    Parameters
    ----------
    frame : pandas DataFrame
        Without missing values in the columns used.
    context : dict
        Names beside the columns, such as the user's functions.
    state : dict
        State of stateful transforms; a copy is used.
    """

    def __init__(self, frame, context, state):
        self.frame = frame = evaluable(frame)
        self.materializer = PandasMaterializer(frame, context=context)
        self.state = dict(state)
        self.spec = ModelSpec(formula=[], na_action="ignore", output="numpy", transform_state=self.state)

    def expression(self, source):
        """Value of an expression that is no factor of its own: a stateful transform's argument."""
        try:
            return np.asarray(stateful_eval(source, self.materializer.layered_context, {}, self.state, self.spec),
                              float)
        except (TypeError, ValueError, NameError, AttributeError) as error:
            raise ValueError(f"{source!r} in the formula cannot be evaluated: {error}.") from None

    def factor(self, factor):
        """formulaic's evaluated factor.

        Raises
        ------
        ValueError
            It cannot be evaluated on these rows.
        """
        try:
            return self.materializer._evaluate_factor(factor, self.spec, set())
        except FactorEvaluationError as error:
            cause = error.__cause__ or error
            raise ValueError(f"The term {factor.expr!r} of the formula cannot be evaluated: {type(cause).__name__}: "
                             f"{cause}.") from None

    def values(self, factor):
        """Unwrapped values of a factor as a Series."""
        values = self.factor(factor).values.__wrapped__
        if np.ndim(values) and len(values) != len(self.frame):
            raise ValueError(f"The term {factor.expr!r} of the formula gives {len(values)} values for "
                             f"{len(self.frame)} rows.")
        return values if isinstance(values, pd.Series) else pd.Series(np.asarray(values), index=self.frame.index)

    def numbers(self, factor, reduced):
        """(n, k) float columns of a numeric factor."""
        evaluated = self.factor(factor)
        columns = as_columns(evaluated.values)
        metadata = evaluated.metadata
        if isinstance(columns, dict):
            drop = metadata.drop_field if reduced and metadata.spans_intercept else None
            kept = [v for name, v in columns.items() if not str(name).startswith("__") and name != drop]
            if not kept:
                raise ValueError(f"The term {factor.expr!r} of the formula makes no columns.")
            return np.column_stack([as_floats(v, factor.expr, len(self.frame)) for v in kept])
        return as_floats(columns, factor.expr, len(self.frame))[:, None]


def as_floats(values, name, n):
    """A numeric column as float64.

    Raises
    ------
    ValueError
        It holds no numbers.
    """
    values = getattr(values, "__wrapped__", values)
    if getattr(values, "dtype", None) is not None and values.dtype.kind in "mM":
        raise ValueError(f"In the formula {no_number(repr(name), values.dtype)}")
    try:
        if isinstance(values, pd.Series):
            values = values.to_numpy(dtype=np.float64, na_value=np.nan)
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        kind = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{name!r} in the formula holds {kind} values, which are no numbers: convert them, or write "
                         f"C({name}) to use them as categories.") from None
    return np.broadcast_to(values, (n,)) if values.ndim == 0 else values


@dataclasses.dataclass(frozen=True, eq=False)
class Coding:
    """Levels of a factor and the design rows that they stand for.

    Attributes
    ----------
    levels : tuple
    full, reduced : (n_levels, k) CSR matrix or None
        Contrast rows in full and in reduced rank, where the formula uses them.
    """

    levels: tuple
    full: object = None
    reduced: object = None

    def rows(self, reduced):
        return self.reduced if reduced else self.full

    def codes(self, values, name):
        """Position of each value among the levels.

        Raises
        ------
        ValueError
            A level that the fit has not seen.
        """
        index = pd.Index(list(self.levels))
        if isinstance(values.dtype, pd.CategoricalDtype):
            position, uniques = values.cat.codes.to_numpy(), values.cat.categories
        else:
            position, uniques = pd.factorize(values)
        lookup = index.get_indexer(pd.Index(uniques)) if len(uniques) else np.zeros(0, int)
        codes = np.where(position < 0, -1, lookup[position]) if len(lookup) else np.full(len(values), -1)
        if (codes < 0).any():
            bad = values[codes < 0]
            known = ", ".join(map(repr, self.levels[:8])) + (" ..." if len(self.levels) > 8 else "")
            raise ValueError(f"{name} holds the level {bad.iloc[0]!r} in {len(bad)} rows, which the fit has not seen: "
                             f"it knows {known}. Drop these rows, merge the level with a known one, or fit again.")
        return codes


def dense_product(pieces, scale):
    """(n, k) products of the pieces' columns, those of the first piece running fastest."""
    out = pieces[0]
    for piece in pieces[1:]:
        out = (piece[:, :, None] * out[:, None, :]).reshape(len(out), -1)
    return out if scale == 1 else scale * out


def sparse_product(pieces, scale):
    """`dense_product` of pieces of which some are CSR matrices, as a CSR matrix."""
    out = as_csr(pieces[0])
    for piece in map(as_csr, pieces[1:]):
        out = _row_kronecker(piece, out)
    return out if scale == 1 else scale * out


def as_csr(a):
    """CSR of a dense or sparse matrix; a dense one keeps its zeros, so that rows stay cheap to build."""
    if sparse.issparse(a):
        return a
    n, k = a.shape
    return sparse.csr_matrix((np.ascontiguousarray(a).ravel(), np.tile(np.arange(k), n), np.arange(n + 1) * k), (n, k))


def _row_kronecker(left, right):
    """Row-wise Kronecker product of CSR matrices: each stored value of a left row times its right row."""
    n, width = right.shape
    n_left, n_right = np.diff(left.indptr), np.diff(right.indptr)
    row = np.repeat(np.arange(n), n_left)
    length = n_right[row]
    start = np.cumsum(length) - length
    inner = np.arange(length.sum()) - np.repeat(start, length) + np.repeat(right.indptr[:-1][row], length)
    data = np.repeat(left.data, length) * right.data[inner]
    indices = np.repeat(left.indices.astype(np.int64) * width, length) + right.indices[inner]
    indptr = np.r_[0, np.cumsum(n_left * n_right)]
    return sparse.csr_matrix((data, indices, indptr), (n, left.shape[1] * width))
