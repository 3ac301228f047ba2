"""Settings of an exact fit, which estimators and formulas share: each mistake is told in one sentence."""

import numbers

import numpy as np

from daskglm_rep.inference.covariance import CLUSTERED, COV_TYPES
from daskglm_rep.shapes import GroupLasso, Shape

NUMBERS = (("alpha", lambda v: 0 <= v < np.inf, ">= 0"), ("l1_ratio", lambda v: 0 <= v <= 1, "in [0, 1]"),
           ("tol", lambda v: v > 0, "> 0"), ("max_iter", lambda v: v >= 1, ">= 1"))
CHOICES = (("weights_kind", ("prior", "frequency")), ("rank", ("warn", "error")))


ELSEWHERE = {           # parameters of scikit-learn's linear models that go by another name here
    "C": "the penalty is alpha = 1 / (C n) for n rows (or their total weight); the default, alpha=0, is penalty=None",
    "penalty": "None is alpha=0, the default; 'l2' is l1_ratio=0, 'l1' l1_ratio=1, 'elasticnet' between, with "
               "alpha = 1 / (C n) for n rows",
    "n_jobs": "dask runs the fit: dask.config.set(num_workers=...), or a distributed Client",
    "multi_class": "LogisticRegression fits two classes or the multinomial model; leave it out",
    "dual": "leave it out",
    "intercept_scaling": "the intercept is never penalized; leave it out",
    "lambda_": "the penalty is alpha"}


def _is_word(value):
    """Whether a value is one of scikit-learn's names of penalties."""
    return isinstance(value, str) and value in ("l1", "l2", "elasticnet", "none")


def refuse_elsewhere(cls, given, kind):
    """Tell where parameters of scikit-learn's models go, those that a class has not itself.

    Raises
    ------
    TypeError or ValueError
        `kind`.
    """
    for name in given:
        if name in ELSEWHERE and (name not in cls._get_param_names() or _is_word(given[name])):
            raise kind(f"{cls.__name__} has no parameter {name!r} of scikit-learn's: {ELSEWHERE[name]}.")


def check_intercept(names, intercept):
    """Refuse a column that is called like the intercept beside one."""
    if intercept and "Intercept" in names:
        raise ValueError("X has a column called 'Intercept', and the fit adds one of that name: drop the column, or "
                         "pass fit_intercept=False (in a formula, '0 + ...').")


def check_number(name, value, good, words):
    """Refuse what is not a real number, or not a good one; `words` say which are good."""
    if not (isinstance(value, numbers.Real) and good(value)):
        raise ValueError(f"{name} must be a number {words}, got {value!r}.")


def check_choice(name, value, allowed):
    """Refuse what is none of the texts allowed."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known: choose one of {', '.join(allowed)}.")


def check_flag(name, value):
    """Refuse what is neither True nor False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {value!r}.")


def check_seed(value):
    """Refuse what is neither None nor a whole number >= 0."""
    if not (value is None or isinstance(value, numbers.Integral) and value >= 0):
        raise ValueError(f"random_state must be an integer >= 0 (it fixes the random choices), got {value!r}.")


def check_cov_type(cov_type, has_clusters, example):
    """The covariance to compute: the one named, else "cluster" where clusters are given and "nonrobust" where not.

    Parameters
    ----------
    cov_type : str or None
    has_clusters : bool
    example : str
        How clusters are given, for the message.

    Raises
    ------
    ValueError
        An unknown type; clusters without a type that needs them, or the other way round.
    """
    if cov_type is None:
        return "cluster" if has_clusters else "nonrobust"
    check_choice("cov_type", cov_type, COV_TYPES)
    if cov_type in CLUSTERED and not has_clusters:
        raise ValueError(f"cov_type={cov_type!r} needs cluster labels: {example}.")
    if cov_type == "nonrobust" and has_clusters:
        raise ValueError("clusters are given, and cov_type='nonrobust' ignores them: leave cov_type out for clustered "
                         "standard errors, or leave clusters out.")
    return cov_type


def check_alpha(model, who):
    """Refuse a negative binomial whose alpha nobody gave, where no exact fit estimates it."""
    if model.estimates_alpha:
        raise ValueError(f"{who} does not estimate the negative binomial's alpha: give it, "
                         "family=families.NegativeBinomial(0.5), or fit NegativeBinomialRegressor, which does.")


def check_penalty(settings):
    """Refuse what is no penalty, a share given twice, and a solver or a penalty without a strength."""
    kind, solver = settings["penalty"], settings["solver"]
    if not (kind is None or isinstance(kind, (Shape, GroupLasso))):
        raise ValueError("penalty must be one of daskglm_rep.penalties (GroupLasso(), MCP(), SCAD(), a Shape of your "
                         f"own) or None for the elastic net, got {kind!r}.")
    if kind is not None:
        check_number("penalty's l1_ratio", kind.l1_ratio, lambda v: 0 < v <= 1, "in (0, 1]")
        if settings["l1_ratio"]:
            raise ValueError(f"l1_ratio={settings['l1_ratio']!r} belongs to the elastic net: give the share to the "
                             f"penalty, {type(kind).__name__}(l1_ratio=...).")
        if not settings["alpha"]:
            raise ValueError(f"penalty={kind!r} needs a strength: alpha > 0.")
    factor = settings["penalty_factor"]
    if settings["alpha"] and factor is not None and np.size(factor) and not np.any(factor):
        raise ValueError("penalty_factor is zero for all features, so that alpha > 0 penalises nothing: use alpha=0.")
    if solver in ("fista", "igd") and not settings["alpha"]:
        raise ValueError(f"solver={solver!r} is for penalised fits: give alpha > 0, or leave the solver out.")


def check_fit(settings, cov_type):
    """Check the settings of an exact fit and the covariance that is to follow.

    Parameters
    ----------
    settings : dict
    cov_type : str

    Raises
    ------
    ValueError
        Values that are not allowed; a robust covariance of a penalized fit.
    """
    for name, good, words in NUMBERS:
        check_number(name, settings[name], good, words)
    for name, allowed in CHOICES:
        check_choice(name, settings[name], allowed)
    check_flag("standardize", settings["standardize"])
    if not isinstance(settings["verbose"], numbers.Integral):
        raise ValueError(f"verbose must be a whole number or a truth value, got {settings['verbose']!r}.")
    check_penalty(settings)
    if cov_type != "nonrobust" and settings["alpha"] > 0:
        raise ValueError("Standard errors after penalization are not defined: fit with alpha=0 for "
                         f"cov_type={cov_type!r}.")
