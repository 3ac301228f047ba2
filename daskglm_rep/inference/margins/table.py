"""The table of marginal effects: estimates, errors, tests between effects, pictures."""

import dataclasses
from functools import cached_property

import numpy as np
import pandas as pd

from daskglm_rep.inference.contrasts import nonlinear
from daskglm_rep.inference.hypotheses import wald
from daskglm_rep.inference.restrictions import restrictions
from daskglm_rep.plotting import plot_margins
from daskglm_rep.printing import Printable

NUMBERS = ("effect", "se", "statistic", "pvalue", "ci_lower", "ci_upper")


@dataclasses.dataclass(frozen=True)
class Form:
    """How effects are shown: the level of intervals, the value that means no effect, logarithms as ratios; in words."""

    level: float
    null: float = 0.0
    exponentiate: bool = False
    words: str = "effect on"


class MarginsResult(Printable):
    """Effects with delta-method errors.

    Attributes
    ----------
    frame : DataFrame
        variable, contrast, class (multinomial only), the groups of `over=` and the values of `at=` lists, effect, se,
        statistic, pvalue, ci_lower, ci_upper.
    names : list of str
        One name a row, as `wald_test` takes them: the variable, followed in brackets by what tells its rows apart.
    jacobian : DataFrame
        S, effects by coefficients: derivatives of the effects in the coefficients that are not aliased.
    n_passes : int
        Sweeps over the data that these effects took.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> effects = results.margins(data)
    >>> effects.names
    ['age', 'plan']
    >>> effects.wald_test("age = 0").pvalue > 0.001
    True
    """

    def __init__(self, labels, effect, jacobian, results, form, n_passes):
        self.labels, self._effect, self._jacobian, self.results = labels, effect, jacobian, results
        self.form, self.n_passes = form, n_passes

    @property
    def level(self):
        """Of the intervals."""
        return self.form.level

    @property
    def null(self):
        """The value that means no effect, as shown."""
        return 1.0 if self.form.exponentiate else self.form.null

    @cached_property
    def names(self):
        varying = [column for column in self.labels.columns[1:] if self.labels[column].nunique() > 1]
        names = []
        for _, row in self.labels.iterrows():
            same = self.labels[self.labels["variable"] == row["variable"]]
            marks = [str(row[column]) for column in varying if same[column].nunique() > 1]
            names.append(f"{row['variable']}[{', '.join(marks)}]" if marks else str(row["variable"]))
        return names

    @cached_property
    def cov(self):
        """Covariance matrix of the effects, a DataFrame by `names`; of their logarithms with exponentiate=True."""
        V = self.results.covariance.matrix
        return pd.DataFrame(self._jacobian @ V @ self._jacobian.T, self.names, self.names)

    @property
    def jacobian(self):
        columns = self.results.index[self.results._kept]
        return pd.DataFrame(self._jacobian, self.names, columns)

    @cached_property
    def frame(self):
        distribution = self.results.distribution
        variance = np.diag(self.cov.to_numpy())
        se = np.sqrt(np.where(variance >= 0, variance, np.nan))
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = (self._effect - self.form.null) / se
        half = distribution.ppf(0.5 + self.level / 2) * se
        effect, ends = self._effect, (self._effect - half, self._effect + half)
        if self.form.exponentiate:
            effect, ends = np.exp(effect), np.exp(ends)
            se = effect * se
        columns = (effect, se, statistic, 2.0 * distribution.sf(np.abs(statistic)), *ends)
        return self.labels.assign(**dict(zip(NUMBERS, columns)))

    def wald_test(self, R, q=None):
        """Test linear hypotheses on the effects (on their logarithms with exponentiate=True).

        Parameters
        ----------
        R : str or (m, E) array
            "age = income", "x[b - a] = 0, z = 2 * w": names as in `names`; or a matrix with R @ effects = q.
        q : (m,) array, optional
            Default zeros.

        Returns
        -------
        TestResult
            F where the results use t, else chi-squared.
        """
        text = R if isinstance(R, str) else ""
        R, q = restrictions(R, q, pd.Index(self.names))
        return wald(self._effect, self.cov.to_numpy(), R, q, self.results.covariance.df, text)

    def hypotheses(self, hypothesis):
        """Functions of the effects with delta-method errors, each tested against zero, as `GLMResults.hypotheses`.

        Parameters
        ----------
        hypothesis : str
            Equations in `names`, such as "x / z = 2".

        Returns
        -------
        inference.contrasts.Contrasts
        """
        df = self.results.covariance.df
        return nonlinear(hypothesis, self._effect, self.cov.to_numpy(), pd.Index(self.names),
                         lambda J: None if df is None else np.full(len(J), float(df)))

    def plot(self, ax=None):
        """Effects with intervals; along the variable where `at=` held a list of numbers.

        Returns
        -------
        matplotlib Axes
        """
        return plot_margins(self, ax)

    def _note(self):
        test = "t" if self.results.use_t else "z"
        return (f"{self.results.cov_type} covariance, delta method, {test} tests, {100 * self.level:g} % intervals; "
                f"{self.n_passes} sweep{'s' if self.n_passes != 1 else ''} over the data.")

    _index = False

    def _table(self):
        return self.frame

    def _notes(self):
        return [self._note()]
