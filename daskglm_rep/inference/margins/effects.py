"""From what a user asks for to averages over rows (`MeanPrediction`, `Slope`) and their combinations, the effects."""

import dataclasses
import numbers

import numpy as np
from scipy import special

from daskglm_rep.inference.margins.terms import NUMBER

METHODS = {"dydx": "dY/dX", "eyex": "eY/eX", "dyex": "dY/eX", "eydx": "eY/dX"}
CHANGES = ("unit", "centered", "sd", "iqr", "minmax")
DISCRETE = ("factors", "dummies", None)
CONTRASTS = ("reference", "pairwise", "sequential")
LABELS = {"difference": "{} - {}", "ratio": "{} / {}", "lift": "{} / {} - 1", "lnratio": "ln({} / {})",
          "lnor": "ln(odds {} / odds {})"}


@dataclasses.dataclass(frozen=True)
class MeanPrediction:
    """Average of E[y], or of ln E[y], with a variable set to a value or shifted by it; as it is without a variable."""

    variable: str = None
    how: str = "set"
    value: object = None
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Slope:
    """Average derivative of E[y] (`relative`: of ln E[y]) in a variable, times its value with `times_x`.

    With `levels` = (a, b) the direction is that of a factor's dummy as if it were a number: design at b minus design at
    a.
    """

    variable: str
    relative: bool = False
    times_x: bool = False
    levels: tuple = None


@dataclasses.dataclass(frozen=True)
class Effect:
    """A linear combination of averages: ((average, coefficient), ...)."""

    variable: str
    contrast: str
    parts: tuple


def of(option, name):
    """A variable's own value of an option that may be given by name."""
    return option.get(name) if isinstance(option, dict) else option


def is_pair(contrast):
    """Whether a contrast sets values, rather than to say which levels are compared."""
    return contrast is not None and not isinstance(contrast, str)


def check_options(method, discrete, change, contrast, comparison):
    """Refuse what is not an option, in one sentence."""
    if comparison not in LABELS:
        raise ValueError(f"comparison={comparison!r} is not known: choose one of {', '.join(LABELS)}.")
    if comparison != "difference" and (method != "dydx" or discrete is None):
        raise ValueError(f"comparison={comparison!r} compares means after a discrete change: leave method= and "
                         "discrete= at their defaults.")
    by_name = {name for option in (change, contrast) if isinstance(option, dict) for name in option}
    for name in by_name or [None]:
        _check_changes(method, discrete, of(change, name), of(contrast, name))


def _check_changes(method, discrete, change, contrast):
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known: choose one of {', '.join(METHODS)}.")
    if discrete not in DISCRETE:
        raise ValueError(f"discrete={discrete!r} is not known: choose 'factors' (levels are compared), 'dummies' "
                         "(columns of 0 and 1 too) or None (everything as if continuous).")
    if not (change is None or (isinstance(change, str) and change in CHANGES) or _is_pair_of_numbers(change)):
        raise ValueError(f"change={change!r} is not known: choose one of {', '.join(CHANGES)}, or a pair of numbers "
                         "(lo, hi) to add to each row's value.")
    if isinstance(contrast, str) and contrast not in CONTRASTS:
        raise ValueError(f"contrast={contrast!r} is not known: choose one of {', '.join(CONTRASTS)}, or a pair (from, "
                         "to).")
    if not (contrast is None or isinstance(contrast, str) or (np.ndim(contrast) == 1 and len(contrast) == 2)):
        raise ValueError(f"contrast={contrast!r} must be a pair (from, to) or one of {', '.join(CONTRASTS)}.")
    if change is not None and isinstance(contrast, (tuple, list)):
        raise ValueError("change= shifts each row's value and contrast=(from, to) sets it: give one of the two.")
    if method in ("eyex", "dyex") and (change is not None or isinstance(contrast, (tuple, list))):
        raise ValueError(f"method={method!r} is a derivative: a discrete change has 'dydx' (difference of E[y]) and "
                         "'eydx' (difference of ln E[y]).")


def _is_pair_of_numbers(value):
    return isinstance(value, (tuple, list, np.ndarray)) and len(value) == 2 and all(
        isinstance(v, numbers.Real) and np.isfinite(v) for v in value)


def check_variables(terms, variables):
    """The variables asked for, all of them by default.

    Raises
    ------
    ValueError
        A name is not a base variable of the model.
    """
    known = terms.variables
    if variables is None:
        return list(known)
    variables = [variables] if isinstance(variables, str) else list(variables)
    for name in variables:
        if name not in known:
            column = " (it is a column of the design, made of base variables)" if name in terms.names else ""
            raise ValueError(f"variables= names {name!r}, which is not a base variable of the model{column}: choose "
                             f"among {', '.join(map(repr, list(known)[:20]))}.")
    return variables


def needs(terms, variables, discrete, change):
    """Facts that the effects refer to: numeric variables to survey, and (variable, probability) of quantiles."""
    numeric = [name for name in variables if terms.variables[name] is NUMBER]
    asked = {name: of(change, name) if isinstance(of(change, name), str) else None for name in numeric}
    wanted = [name for name in numeric if discrete == "dummies" or asked[name] in ("sd", "iqr", "minmax")]
    return wanted, {(name, p) for name in wanted for p in (0.25, 0.75) if asked[name] == "iqr"}


def plan(terms, variables, method, discrete, change, contrast, facts, references, explicit, words=LABELS["difference"]):
    """List the effects of some variables.

    Parameters
    ----------
    terms : terms.ArrayTerms, FrameTerms or MixedTerms
    facts : survey.VariableFacts or None
    references : dict
        Factor -> reference level, where it is not the first.
    explicit : bool
        Whether the user named the variables: then what a method cannot do is an error, else the variable is left out.
    words : str
        How labels join the ends of a change, a value of `LABELS`.

    Returns
    -------
    list of Effect

    Raises
    ------
    ValueError
        An unknown level; a variable that does not vary where the change needs it to; an elasticity of a factor.
    """
    effects = []
    for name in variables:
        levels = terms.variables[name]
        if levels is NUMBER:
            effects += _numeric(name, method, discrete, of(change, name), of(contrast, name), facts, words)
        elif method not in ("eyex", "dyex"):
            effects += _factor(name, levels, references.get(name, levels[0]), method, discrete, of(contrast, name),
                               words)
        elif explicit:
            raise ValueError(f"method={method!r} multiplies by the variable, and {name!r} is a factor: use 'dydx' or "
                             "'eydx'.")
    if not effects:
        raise ValueError(f"method={method!r} has no effect for any variable of this model, which are all factors: use "
                         "'dydx' or 'eydx'.")
    return effects


def _moved(step):
    return f"(x {'-' if step < 0 else '+'} {abs(step):g})" if step else "x"


def _difference(name, ends, how, low, high, method, words, label=None):
    """Two means compared: `ends` name the high and the low one, `words` join them; `label` is a shorter difference."""
    log = method == "eydx"
    label = label if label and words == LABELS["difference"] else words.format(*ends)
    pair = ((MeanPrediction(name, how, value, log), sign) for value, sign in ((high, 1.0), (low, -1.0)))
    return Effect(name, label, tuple(pair))


def _factor(name, levels, reference, method, discrete, contrast, words):
    effects = []
    for a, b in _pairs(name, levels, reference, contrast):
        effects.append(_difference(name, (b, a), "set", a, b, method, words) if discrete else
                       Effect(name, f"{b} - {a}", ((Slope(name, method == "eydx", False, (a, b)), 1.0),)))
    return effects


def _pairs(name, levels, reference, contrast):
    """(from, to) pairs of levels."""
    if contrast is None or contrast == "reference":
        return [(reference, level) for level in levels if level != reference]
    if contrast == "pairwise":
        return [(a, b) for i, a in enumerate(levels) for b in levels[i + 1:]]
    if contrast == "sequential":
        return list(zip(levels, levels[1:]))
    return [tuple(known_level(name, levels, value, "contrast=") for value in contrast)]


def known_level(name, levels, value, option):
    """The level equal to a value.

    Raises
    ------
    ValueError
        There is none.
    """
    for level in levels:
        if level == value:
            return level
    raise ValueError(f"{option} asks for level {value!r} of {name!r}, which the fitted data do not have; its levels "
                     f"are {', '.join(map(repr, levels[:20]))}.")


def _numeric(name, method, discrete, change, contrast, facts, words):
    if isinstance(contrast, (tuple, list, np.ndarray)):
        if not _is_pair_of_numbers(contrast):
            raise ValueError(f"contrast={contrast!r} must hold two finite numbers for the numeric variable {name!r}.")
        low, high = map(float, contrast)
        return [_difference(name, (f"{high:g}", f"{low:g}"), "set", low, high, method, words)]
    if discrete == "dummies" and facts.binary[name] and method in ("dydx", "eydx"):
        return [_difference(name, ("1", "0"), "set", 0.0, 1.0, method, words)]
    if change is None:
        return [Effect(name, METHODS[method], ((Slope(name, method[0] == "e", method[2:] == "ex"), 1.0),))]
    if not isinstance(change, str):
        low, high = map(float, change)
        return [_difference(name, (_moved(high), _moved(low)), "shift", low, high, method, words)]
    label, ends, *values = _named_change(name, change, facts)
    return [_difference(name, ends, *values, method, words, label)]


def _named_change(name, change, facts):
    """Label, words for the ends, how, low, high of a change with a name."""
    if change == "unit":
        return "+1", ("(x + 1)", "x"), "shift", 0.0, 1.0
    if change == "centered":
        return "centered +1", ("(x + 1/2)", "(x - 1/2)"), "shift", -0.5, 0.5
    if change == "sd":
        half = facts.deviation[name] / 2.0
        label, ends, how, low, high = "sd", ("(x + sd/2)", "(x - sd/2)"), "shift", -half, half
    elif change == "iqr":
        ends, how, (low, high) = ("Q3", "Q1"), "set", (facts.quantiles[name, p] for p in (0.25, 0.75))
        label = "Q3 - Q1"
    else:
        label, ends, how, low, high = "max - min", ("max", "min"), "set", facts.low[name], facts.high[name]
    if not high > low:
        what = ("its quartiles agree" if facts.high[name] > facts.low[name]
                else f"it is {facts.low[name]:g} in every row")
        raise ValueError(f"change={change!r} of {name!r} is no change: {what} in these data; give change=(lo, hi) or "
                         "contrast=(from, to).")
    return label, ends, how, low, high


def label_of(comparison, exponentiate):
    """How a contrast is written; with `exponentiate` once the logarithm is undone."""
    words = LABELS[comparison]
    return words if not exponentiate else words.removeprefix("ln(").removesuffix(")").replace(" - ", " / ")


def words_of(method, comparison, exponentiate):
    """What is shown of the means, in words that a picture puts before them."""
    kind = method if comparison == "difference" else comparison
    words = {"dydx": "effect on", "eyex": "elasticity of", "dyex": "effect of ln x on", "eydx": "log ratio of",
             "ratio": "ratio of", "lift": "relative change of", "lnratio": "log ratio of", "lnor": "log odds ratio of"}
    return words[kind].removeprefix("log ") if exponentiate else words[kind]


def compare(coefficients, means, gradients, comparison):
    """An effect from averages over rows: sum_a c_a h(m_a), with its gradient.

    h is the identity for differences, the logarithm for ratios (whose exponential is taken back where the ratio itself
    is wanted) and the logit for log odds ratios.

    Parameters
    ----------
    coefficients : (A,) array
    means : (A, R) array
    gradients : (A, R, k) array

    Returns
    -------
    (R,) effects, (R, k) gradients

    Raises
    ------
    ValueError
        An average outside the domain of h.
    """
    if comparison == "difference":
        return coefficients @ means, np.tensordot(coefficients, gradients, axes=1)
    used = coefficients != 0
    c, m, slopes = coefficients[used], means[used], gradients[used]
    odds = comparison == "lnor"
    if not (m > 0).all() or odds and not (m < 1).all():
        where = "strictly between 0 and 1" if odds else "positive"
        raise ValueError(f"comparison={comparison!r} needs averages of E[y] that are {where}, and one is "
                         f"{m[~((m > 0) & ((not odds) | (m < 1)))].flat[0]:.4g}: use comparison='difference'.")
    value = c @ (special.logit(m) if odds else np.log(m))
    rate = 1.0 / (m * (1.0 - m)) if odds else 1.0 / m
    gradient = np.tensordot(c, rate[:, :, None] * slopes, axes=1)
    if comparison in ("lnratio", "lnor"):
        return value, gradient
    ratio = np.exp(value)
    return ratio - (comparison == "lift"), ratio[:, None] * gradient
