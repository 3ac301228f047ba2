"""From the text of a formula to its `FormulaSpec`: parse it, learn levels and states over all rows, fix the columns."""

import builtins
import dataclasses
import math
import warnings

import pandas as pd
from formulaic import Formula
from formulaic.errors import FormulaicError
from formulaic.formula import SimpleFormula
from formulaic.materializers.pandas import PandasMaterializer
from formulaic.model_spec import ModelSpec
from formulaic.parser.algos.tokenize import tokenize
from formulaic.parser.types import Factor, Token
from formulaic.transforms import TRANSFORMS
from scipy import sparse

from daskglm_rep import passes
from daskglm_rep.formula import allowed
from daskglm_rep.formula import learn as learning
from daskglm_rep.formula.spec import FormulaSpec
from daskglm_rep.formula.terms import Coding, Evaluator, called, evaluable, names_of, stateful_calls
from daskglm_rep.recipes import no_number
from daskglm_rep.settings import check_intercept
from daskglm_rep.telling import FormulaWarning, tell

MANY_DUMMIES, FILLED = 64, 0.2       # designs wider than this and emptier than that are built sparse
MAX_COLUMNS = 12_000                 # the information matrix of more would not fit in memory (1.2 GB at 12,000)

ELSEWHERE = {                        # words of R's formulas that are arguments here, or columns made before
    "offset": "compute it as a column of data, and name that one: offset='log_w'; or exposure='w', whose logarithm "
              "is taken",
    "exposure": "name its column beside the formula: exposure='w'",
    "weights": "name their column beside the formula: weights='w'",
    "cbind": "counts of successes are given as their share, with the trials as weights: 'share ~ x', weights='trials'",
    "s": "splines are bs(x, df=5) and cr(x, df=5)",
    "ns": "natural splines are cr(x, df=5)",
    "factor": "write C()",
    "relevel": "write C(g, contr.treatment('level'))",
    "cluster": "name their column beside the formula: clusters='firm'"}


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A formula against a table's columns, before any row is read.

    Attributes
    ----------
    text : str
    rhs : formulaic SimpleFormula
    response : formulaic Factor or None
    rhs_columns, response_columns : list of str
    """

    text: str
    rhs: object
    response: object
    rhs_columns: list
    response_columns: list


def check_text(formula):
    """Refuse what is no text."""
    if not isinstance(formula, str):
        raise ValueError(f"formula must be a text such as 'y ~ x + C(group)', got {type(formula).__name__}; data comes "
                         "second, glm(formula, data).")


def parse(formula, columns, context, allow="code"):
    """Check a formula against the columns there are, and against what is allowed (`glm`).

    Raises
    ------
    ValueError
        Syntax errors, no or several responses, names that are neither columns nor known functions.
    """
    allowed.check_modes(allow)
    try:
        if allow == "terms":
            allowed.check_size(formula)
        parsed = Formula(formula, _context={"__formulaic_variables_available__": columns})
    except SyntaxError as error:
        raise ValueError(f"The formula {formula!r} cannot be read: {error.msg}; a column called like a word of Python "
                         "needs another name inside a function.") from None
    except FormulaicError as error:
        hint = " (random effects are none of a formula here; for errors of groups, clusters='g')" * ("|" in formula)
        raise ValueError(f"The formula {formula!r} cannot be read: {str(error).splitlines()[0]}{hint}") from None
    except RecursionError:
        raise ValueError(f"The formula {formula[:80]!r} cannot be read: it is nested too deeply.") from None
    _tell_powers(formula)
    left, right = getattr(parsed, "lhs", None), getattr(parsed, "rhs", None)
    if left is None or not isinstance(right, SimpleFormula) or not isinstance(left, SimpleFormula):
        raise ValueError(f"The formula {formula!r} needs one response and one right-hand side: 'y ~ x + C(group)'.")
    if len(left) != 1 or len(left[0].factors) != 1:
        raise ValueError(f"The formula {formula!r} names {len(left)} response terms; one column or expression is "
                         "wanted.")
    response = next(iter(left[0].factors))
    if allow == "terms":
        allowed.check_terms(formula, [*right, *left], columns)
    sides = []
    for factors in ([f for term in right for f in term.factors], [response]):
        names = list(dict.fromkeys(name for f in factors for name in names_of(f)))
        for name in (name for f in factors for name in called(f) if name in columns):
            raise ValueError(f"The formula {formula!r} calls {name!r}, which is a column of data, and columns go "
                             "before functions: rename the column.")
        for name in names:
            if name not in columns and name not in TRANSFORMS and name not in context and not hasattr(builtins, name):
                raise ValueError(_unknown(name, formula, columns))
        sides.append([name for name in names if name in columns])
    return Parsed(formula, right, response, *sides)


def _unknown(name, formula, columns):
    """What is wrong with a name that is neither a column nor a function, and where what it means in R goes."""
    told = f"The formula {formula!r} names {name!r}, which is no column of data (nor a known function)"
    if name in ELSEWHERE:
        return f"{told}: {ELSEWHERE[name]}."
    if f"{name}(" in formula.replace(" ", ""):
        return f"{told}: pass a function of your own by name, context={{{name!r}: {name}}}."
    return f"{told}; its columns are {', '.join(map(repr, columns[:12]))}{' ...' if len(columns) > 12 else ''}."


def _tell_powers(formula):
    """Warn of x**2 and x^2, which are x: powers of terms are interactions, as in R."""
    tokens = list(tokenize(formula))
    for before, operator, after in zip(tokens, tokens[1:], tokens[2:]):
        if str(operator) in ("**", "^") and after.kind is Token.Kind.VALUE and before.kind in (Token.Kind.NAME,
                                                                                               Token.Kind.PYTHON):
            tell(f"{before}{operator}{after} in the formula {formula!r} is {before} alone, for powers of terms are "
                 f"interactions: write I({before} ** {after}) for the power of its values.", FormulaWarning)


def learn_spec(parsed, data, example, others, context):
    """Learn a formula's levels and transform states in as few sweeps as its nesting asks, most often one or none.

    Parameters
    ----------
    parsed : Parsed
    data : Data of frames
    example : pandas DataFrame
        Rows of the right types; values do not matter.
    others : list of str
        Further columns whose missing values exclude rows: weights, offset, clusters.
    context : dict

    Returns
    -------
    FormulaSpec, Learnt or None
        None where no sweep was needed.
    """
    right = {f.expr: f for term in parsed.rhs for f in term.factors if f.eval_method is not Factor.EvalMethod.LITERAL}
    factors = right | {parsed.response.expr: parsed.response}
    kinds, wanted = _kinds(factors, parsed, example, context)
    columns = list(dict.fromkeys(parsed.rhs_columns + parsed.response_columns + others))
    rounds = _rounds(factors, context)
    state, learnt = {}, None
    for i, calls in enumerate(rounds if rounds else [[]] if wanted else []):
        found = passes.run(learning.learn, data, columns, wanted if i == 0 else {}, calls, context, state)
        learnt = found if learnt is None else learnt
        if not len(found.head):
            raise ValueError(_no_rows(found))
        state |= {call.key: learning.state_of(call, found.arguments[call.key], context) for call in calls}
    levels = {} if learnt is None else {name: v.ordered(name) for name, v in learnt.levels.items()}
    for name in wanted:
        if name != parsed.response.expr and len(levels[name]) > MAX_COLUMNS:
            raise ValueError(f"{name} has {len(levels[name]):,} levels: more than {MAX_COLUMNS:,} columns do not fit "
                             "the information matrix; merge rare levels, or use the column as a cluster.")
    probe = example if learnt is None else learnt.head
    return _assemble(parsed, right, levels, state, probe, context), learnt


def _no_rows(found):
    if not found.n_rows:
        return "data has no rows."
    worst = ", ".join(f"{name!r} ({int(n)})"
                      for name, n in sorted(found.missing.items(), key=lambda item: -item[1])[:5])
    return f"No row of data is complete: of {int(found.n_rows)} rows missing are {worst}."


def _kinds(factors, parsed, example, context):
    """Which factors are categorical, by the types of the columns; those need their levels."""
    wanted = {}
    for name, factor in factors.items():
        text = [c for c in parsed.rhs_columns + parsed.response_columns if c == name]
        if text:
            dtype = example[name].dtype
            categorical = (isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_object_dtype(dtype)
                           or pd.api.types.is_string_dtype(dtype))
            if not categorical and not pd.api.types.is_numeric_dtype(dtype) and factor is not parsed.response:
                raise ValueError(no_number(repr(name), dtype))
        else:
            categorical = _looks_categorical(factor, example, context)
        if categorical:
            wanted[name] = factor
    return wanted.keys(), wanted


def _looks_categorical(factor, example, context):
    if stateful_calls(factor, context):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Evaluator(example, context, {}).factor(factor).metadata.kind is Factor.Kind.CATEGORICAL
        except ValueError:
            return factor.expr.startswith("C(")          # the made-up values do not suit; real ones will tell


def _rounds(factors, context):
    """Stateful calls in rounds: a call whose argument holds another waits for that one's state."""
    calls = {c.key: c for f in factors.values() for c in stateful_calls(f, context)}
    depth = {}
    for key, call in calls.items():
        depth[key] = len([k for k in calls if k != key and k in call.argument])
    return [[c for k, c in calls.items() if depth[k] == d] for d in sorted(set(depth.values()))]


def _assemble(parsed, right, levels, state, probe, context):
    """Let formulaic decide ranks, columns and names on a row or two, with levels and states given."""
    coded = [name for name in right if name in levels]
    widths = {name: len(levels[name]) for name in coded}
    evaluator = Evaluator(probe, context, state)
    widths |= {name: evaluator.numbers(factor, False).shape[1] for name, factor in right.items()
               if name not in levels and stateful_calls(factor, context)}
    _check_columns(parsed, widths, set(coded))
    encoder = {name: (Factor.Kind.CATEGORICAL, {"categories": list(levels[name])}) for name in coded}
    wide = sum(len(levels[name]) for name in coded) > 500
    spec = ModelSpec(formula=parsed.rhs, na_action="ignore", output="sparse" if wide else "numpy",
                     encoder_state=encoder, transform_state=dict(state))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            built = PandasMaterializer(evaluable(probe), context=context).get_model_matrix(spec).model_spec
        except Exception as error:                           # what an expression raises is the expression's choice
            cause = error.__cause__ or error
            kind = "" if isinstance(cause, (ValueError, TypeError)) else f"{type(cause).__name__}: "
            raise ValueError(f"The formula {parsed.text!r} cannot be evaluated: {kind}{cause}") from None
    names, slices, products, reduced = [], {}, [], {}
    for term, scoped, columns in ((s.term, s.scoped_terms, s.columns) for s in built.structure):
        if not any(s.factors for s in scoped):
            continue
        slices[str(term)] = list(range(len(names), len(names) + len(columns)))
        names += columns
        for s in scoped:
            pieces = tuple((f.factor.expr, f.reduced) for f in s.factors)
            products.append((pieces, s.scale))
            for name, is_reduced in pieces:
                reduced.setdefault(name, set()).add(is_reduced)
    if len(names) > MAX_COLUMNS:
        raise ValueError(_too_wide(parsed, len(names)))
    codings = {name: _coding(name, built, reduced[name]) for name in coded if name in reduced}
    answer = parsed.response
    intercept = any(not s.factors for e in built.structure for s in e.scoped_terms)
    check_intercept(names, intercept)
    return FormulaSpec(
        formula=parsed.text, names=names, intercept=intercept,
        variables=_variables(parsed, right, codings, probe), response=answer.expr,
        response_levels=list(levels[answer.expr]) if answer.expr in levels else None,
        response_columns=tuple(parsed.response_columns), term_slices=slices,
        sparse=_is_sparse(products, codings, len(names)), products=tuple(products),
        factors={name: right[name] for name in reduced}, codings=codings, state=dict(state), context=dict(context),
        response_factor=answer)


def _check_columns(parsed, widths, coded):
    """Refuse very wide designs before they are made: a term and its margins span the product of its levels at least."""
    spanned = [math.prod(widths.get(f.expr, 1) for f in term.factors) for term in parsed.rhs]
    own = [math.prod(widths.get(f.expr, 1) - (f.expr in coded) for f in term.factors) for term in parsed.rhs]
    least = max([sum(own), *spanned])
    if least > MAX_COLUMNS:
        raise ValueError(_too_wide(parsed, least))


def _too_wide(parsed, n):
    return (f"The formula {parsed.text!r} makes {n:,} columns: more than {MAX_COLUMNS:,} do not fit the information "
            "matrix; merge rare levels.")


def _coding(name, built, reduced):
    contrasts = built.encoder_state[name][1].get("contrasts")
    if contrasts is None:
        raise ValueError(f"{name!r} encodes itself, which is not supported: use C() with the contrasts wanted.")
    rows = {r: sparse.csr_matrix(contrasts.get_coding_matrix(reduced_rank=r, sparse=True)) for r in reduced}
    return Coding(tuple(contrasts.levels), rows.get(False), rows.get(True))


def _variables(parsed, right, codings, probe):
    """Base variables with their levels: of a factor, the levels of `name` or of C(name, ...)."""
    found = {}
    for column in parsed.rhs_columns:
        own = [name for name, factor in right.items() if name in codings
               and [n for n in names_of(factor) if n in parsed.rhs_columns] == [column]
               and (name == column
                    or name.replace(" ", "").replace("`", "").startswith((f"C({column})", f"C({column},")))]
        boolean = pd.api.types.is_bool_dtype(probe[column].dtype)
        found[column] = list(codings[own[0]].levels) if own else [False, True] if boolean else None
    return found


def _is_sparse(products, codings, p):
    """Whether the design is wide and mostly zeros."""
    filled = 0.0
    for pieces, _ in products:
        share = 1.0
        for name, reduced in pieces:
            if name in codings:
                rows = codings[name].rows(reduced)
                share *= rows.nnz / max(rows.shape[0], 1)
        filled += share
    return p > MANY_DUMMIES and filled < FILLED * p
