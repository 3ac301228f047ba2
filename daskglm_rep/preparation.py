"""What comes before every solver: a survey, its checks, class labels, a basis, aliased columns, the pilot's rows."""

import dataclasses
from functools import cached_property

import numpy as np
from scipy import sparse

from daskglm_rep import passes
from daskglm_rep.design import Data
from daskglm_rep.diagnostics import aliased
from daskglm_rep.fitted import Fit, Fitted
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.survey import Pilot, check_number, concatenate, survey
from daskglm_rep.labels import encode_classes
from daskglm_rep.objective import Objective, Point, in_memory
from daskglm_rep.penalties import NONE, elastic_net
from daskglm_rep.summaries import Survey
from daskglm_rep.telling import AliasWarning, tell

PILOT_ROWS, PILOT_SHARE, PILOT_BYTES = 20_000, 0.05, 2 ** 26
MEMORY_SHARE = 0.02     # of rows in memory, where another sweep costs less than a larger pilot
WIDE = 40               # columns from which rows in memory are first swept for the gradient alone


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Rows that were looked at once, and a model in its basis: what every solver begins with.

    Attributes
    ----------
    data : Data
        With class labels coded, where there are classes.
    found : Survey
    model : models.glm.GLM or models.multinomial.Multinomial
    basis : Basis
        Of the columns that are kept.
    kept : (q,) bool array
        Which coefficients of one equation (the intercept first) are not aliased.
    classes : (J,) array or None
        Labels in the model's order, baseline first.
    first : (coef, Moments) or None
        What the sweep that surveyed the rows found at the pilot's coefficients, in the basis, beside (`two_looks`).
    fitted_pilot : Point or None
        The pilot's objective at its optimum, where it was fitted before the rows were surveyed.
    """

    data: Data
    found: Survey
    model: object
    basis: Basis
    kept: np.ndarray
    classes: np.ndarray | None = None
    first: tuple | None = None
    fitted_pilot: Point | None = None

    @cached_property
    def block(self):
        """The pilot's rows, weighted to stand for all."""
        return concatenate(self.found.pilot)

    @cached_property
    def pilot(self):
        """The same as `Data`."""
        return in_memory(self.block)

    def n_rows(self, weights_kind="prior"):
        """Rows that count: of positive weight, or the sum of frequency weights."""
        return self.found.response.n_kept if weights_kind == "prior" else self.found.response.weight

    def elastic_net(self, alpha, l1_ratio=0.0, standardize=False, penalty_factor=None, **more):
        """The penalty of these numbers in the basis, `penalties.elastic_net`."""
        return elastic_net(self.basis, self.model, self.found.columns, alpha, l1_ratio, standardize, penalty_factor,
                           **more)

    def objective(self, penalty=NONE):
        return Objective(self.model, self.basis, penalty)

    def raw(self, coef):
        """Coefficients in the basis as raw ones of all columns, the aliased zero, (equations * q,) array."""
        J = self.model.n_equations
        full = np.zeros((J, self.kept.size))
        full[:, self.kept] = self.basis.raw(coef).reshape(J, -1)
        return full.ravel()

    def standardised(self, raw):
        """`raw`'s inverse."""
        return self.basis.standardised(np.asarray(raw, float).reshape(-1, self.kept.size)[:, self.kept])

    def keep(self, which):
        """The same without some coefficients of each equation: those of the basis that `which`, a bool array, marks
        stay."""
        kept = self.kept.copy()
        kept[kept] = which
        return dataclasses.replace(self, kept=kept, basis=self.basis.keep(np.flatnonzero(which)))

    def fitted(self, fit, weights_kind="prior", separated=None, response=None):
        """The state that results need, from a solver's `Fit`.

        Parameters
        ----------
        response : summaries.Response, optional
            Replaces the survey's sums where only some rows were fitted.
        """
        found = self.found if response is None else dataclasses.replace(self.found, response=response)
        n_rows = self.n_rows(weights_kind) if response is None else response.n_kept
        if found.has_offset:           # then the model without the features is a fit of its own
            null = np.nan if fit.null is None else fit.null.moments.deviance
        else:
            null = self.model.null_deviance(self.found.response, self.basis.intercept, found.labels)
        return Fitted(fit, found, list(self.data.names), self.kept, n_rows, self.data.n_passes, separated, null,
                      weights_kind == "frequency", where=passes.where(self.data))

    def fitted_at(self, point, converged=True, distance=np.nan, n_iter=1, response=None,
                  weights_kind="prior"):
        """`fitted` at a point of the unpenalised objective, where no step is known."""
        fit = Fit(self.objective(), point, np.zeros(point.coef.size), distance, n_iter, converged)
        return self.fitted(fit, weights_kind, response=response)


def prepare(data, model=None, fit_intercept=True, plan=None, seed=0, choose=None, verify=None, n_missing=0.0,
            penalized=False, rank="warn"):
    """Survey the rows and make a model ready to be fitted; one sweep, two where the pilot leaves a doubt of aliasing.

    Parameters
    ----------
    data : Data
    model : models.glm.GLM, optional
        None where `choose` gives it.
    plan : kernels.survey.Pilot, optional
        Rows to bring home; default `pilot_plan`.
    seed : int
        Of the pilot's rows.
    choose : callable, optional
        For responses that are class labels: takes the survey's {label: weight} and the response's name, returns the
        labels in the model's order, baseline first, and the model.
    verify : callable, optional
        Given the survey before anything is made of it, to refuse it in words of the caller's.
    n_missing : float
        Rows left out before the survey, to be counted with its own.
    penalized : bool
        A penalty will choose between aliased columns: all stay.
    rank : {"warn", "error"}
        What to do about aliased columns.

    Returns
    -------
    Prepared

    Raises
    ------
    ValueError
        No rows; NaN or inf; y outside the family's domain; negative or all-zero weights; labels that `choose` refuses;
        aliased columns with rank="error".
    """
    family = None if choose else model.family
    plan = plan or (penalized_plan if penalized else pilot_plan)(data, seed or 0)
    found = passes.run(survey, data, family, plan, choose is not None)
    check(found, data, family)
    found = dataclasses.replace(found, n_missing=found.n_missing + n_missing)
    if verify is not None:
        verify(found)
    prepared = of_survey(data, found, model, fit_intercept, choose)
    return prepared if penalized else without_aliased(prepared, rank)


def of_survey(data, found, model, fit_intercept, choose=None):
    """Classes, model and basis by what a survey found, all columns kept."""
    classes = None
    if choose:
        labels, model = choose(found.labels, data.prepare.response)
        data, found = encode_classes(data, found, tuple(labels))
        classes = np.asarray(labels)
    basis = basis_of(found, fit_intercept)
    return Prepared(data, found, model.for_responses(found.response), basis, np.ones(basis.n_coef, bool), classes)


def pilot_plan(data, seed):
    """Rows to bring home: 5 %, in memory 2 %, at least 20,000 and 20 a coefficient in all, at most 64 MiB.

    Wide rows in memory, whose number is known, are content with 30 a coefficient: more cost more than they save.
    """
    n_blocks, n_features = data.n_blocks, len(data.names)
    least = max(PILOT_ROWS, 20 * (n_features + 1))
    if data.collections is None and n_features >= WIDE and sum(part[0].shape[0] for part in data.chunks) > PILOT_ROWS:
        least = max(PILOT_ROWS // 2, 30 * (n_features + 1))
    most = max(least, PILOT_BYTES // (8 * (n_features + 1)))
    share = PILOT_SHARE if data.collections is not None else MEMORY_SHARE
    return Pilot(-(-least // n_blocks), share, -(-most // n_blocks), seed)


def penalized_plan(data, seed):
    """`pilot_plan` within 64 MiB, or 1000 rows: a penalised pilot may have fewer rows than columns."""
    plan = pilot_plan(data, seed)
    room = -(-max(PILOT_BYTES // (8 * (len(data.names) + 1)), 1000) // data.n_blocks)
    return dataclasses.replace(plan, least=min(plan.least, room), most=min(plan.most, room))


def small_plan(data, n_rows, seed):
    """About `n_rows` pilot rows in all, at least one a block."""
    a_block = max(1, -(-n_rows // data.n_blocks))
    return Pilot(a_block, 0.0, a_block, seed)


def check(found, data, family):
    """Turn what the survey saw into one clear sentence where it is bad; later sweeps must find as many rows."""
    n = sum(found.lengths)
    if n == 0 and found.n_missing:
        raise ValueError(f"No row of data is complete: all {int(found.n_missing)} rows have a missing value in some "
                         "column of the formula.")
    if n == 0:
        raise ValueError("Found array with 0 sample(s): X has no rows; a minimum of 1 is required.")
    if not data.names and not getattr(data.prepare, "intercept", False):
        raise ValueError(f"0 feature(s) (shape=({n}, 0)) while a minimum of 1 is required.")
    for counts, word in ((found.n_nan, "NaN"), (found.n_infinite, "infinite")):
        if counts.any():
            worst = [f"{data.names[j]!r} ({int(counts[j])} rows)" for j in np.flatnonzero(counts)[:5]]
            more = f" and {int((counts > 0).sum()) - 5} more columns" if (counts > 0).sum() > 5 else ""
            raise ValueError(f"X contains {word} values in column {', '.join(worst)}{more}: drop or impute these rows "
                             "before fitting (a formula drops NaN rows and counts them).")
    response = data.prepare.response
    for count, word in zip(found.n_bad_y, ("NaN", "infinite (infinity)")):
        if count:
            raise ValueError(f"{response} contains {word} values in {int(count)} of {n} rows: drop these rows.")
    r = found.response
    if r.n_negative:
        raise ValueError(f"Negative values in sample_weight: {int(r.n_negative)} of {n} rows; weights must be >= 0.")
    if not r.weight > 0:
        raise ValueError(f"All {n} values of sample_weight are zero: no row is left to fit.")
    if r.n_outside:
        raise ValueError(f"{response} has {int(r.n_outside)} of {n} rows outside the domain of the {family.facts.name} "
                         f"family, which takes {family.facts.response}: Some value(s) of y are out of the valid range.")
    check_number(found.labels)
    huge = np.flatnonzero(~np.isfinite(found.columns.mean + found.columns.squares))
    if huge.size:
        raise ValueError(f"The squares of column {', '.join(repr(data.names[j]) for j in huge[:5])} of X, times the "
                         "weights, sum to more than a double holds: divide by a larger unit.")
    data.lengths = found.lengths


def check_dense(found, why):
    """Refuse sparse rows, with the reason, where a method works on dense ones."""
    if sparse.issparse(found.pilot[0].X):
        raise ValueError(f"X is sparse, and {why}: pass dense columns, or fit with GLMRegressor.")


def basis_of(found, fit_intercept):
    """Standardised columns from the survey; a constant column beside an intercept stays unscaled (it is aliased)."""
    spread, p = found.columns, found.columns.mean.size
    if fit_intercept and not sparse.issparse(found.pilot[0].X):
        center, scale = spread.mean, spread.deviation
        scale = np.where(spread.high - spread.low > 0, scale, 0.0)
    else:
        center, scale = np.zeros(p), np.sqrt(spread.mean ** 2 + spread.deviation ** 2)
    return Basis(np.arange(p), center, np.where(scale > 0, scale, 1.0), bool(fit_intercept))


def without_aliased(prepared, rank="warn", kept=None):
    """The same without columns that others determine, which are named; `kept` says which, where that is known."""
    data, found, basis = prepared.data, prepared.found, prepared.basis
    kept = aliased(data, prepared.pilot, found.pilot_is_all, basis) if kept is None else kept
    if not kept.any():
        raise ValueError(f"No coefficient is left to fit: without an intercept, and with X zero in all {kept.size} "
                         "columns, the model is a constant. Pass other columns, or fit_intercept=True.")
    if not kept.all():
        every = ["Intercept"] * basis.intercept + [data.names[j] for j in basis.columns]
        lost = [name for name, k in zip(every, kept) if not k]
        text = (f"{len(lost)} of {kept.size} columns are constant or linear combinations of earlier ones: "
                f"{', '.join(map(repr, lost[:10]))}{' ...' if len(lost) > 10 else ''}.")
        n_rows = int(found.response.n_kept)
        if n_rows < kept.size:
            text = (f"X has {kept.size} columns (intercept included) but only {n_rows} rows that count, so the fit "
                    f"cannot have them all (a penalty, alpha > 0, could). {text}")
        if rank == "error":
            raise ValueError(f"{text} Drop them, or fit with rank='warn' to have them reported as NaN.")
        tell(f"{text} They are reported as NaN, the others are fitted; drop them to silence this.", AliasWarning)
    return prepared.keep(kept)
