"""Marginal effects of results, under this library's names and marginaleffects'."""

import numbers

from daskglm_rep.inference import margins as effects


class MarginalEffects:
    """What `results.GLMResults` knows of effects on E[y]; all take the rows to average over.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> print(results.margins(data).frame.round(3).iloc[:, :4].to_string(index=False))
    variable contrast  effect    se
         age    dY/dX   0.108 0.051
        plan    b - a   0.141 1.078
    >>> results.average_predictions(data, over="plan").frame["effect"].round(3).tolist()
    [2.25, 2.25]
    """

    def margins(self, data, variables=None, at="overall", method="dydx", discrete="factors", change=None, contrast=None,
                over=None, weights=None, **options):
        """Marginal effects on E[y] with delta-method errors; parameters and options: `inference.margins.margins`.

        Returns
        -------
        inference.margins.MarginsResult
        """
        return effects.margins(self, data, variables, at, method, discrete, change, contrast, over, weights, **options)

    def average_predictions(self, data, at="overall", over=None, weights=None, **options):
        """Averages of E[y] with delta-method errors; parameters and options: `inference.margins.average_predictions`.

        Returns
        -------
        inference.margins.MarginsResult
        """
        return effects.average_predictions(self, data, at, over, weights, **options)

    # ------------------------------------------------------------ marginaleffects' names

    def avg_slopes(self, data, variables=None, by=None, slope="dydx", wts=None, **options):
        """Average derivatives of E[y]: `margins` by marginaleffects' name.

        Columns of 0 and 1 move from 0 to 1, levels of factors are set against their reference.

        Parameters
        ----------
        data, variables
            As for `margins`.
        by : str, list of str or (n,) array, optional
            `over` of margins.
        slope : {"dydx", "eyex", "dyex", "eydx"}
            `method` of margins.
        wts : str or (n,) array, optional
            `weights` of margins.
        **options
            Further options of margins, its own names `over` and `weights` too.

        Returns
        -------
        inference.margins.MarginsResult
        """
        options = {"discrete": "dummies"} | _named(by, wts, options)
        return self.margins(data, variables, method=slope, **options)

    def avg_comparisons(self, data, variables=None, by=None, comparison="difference", wts=None, **options):
        """Average comparisons of E[y] after a change: `margins` by marginaleffects' name.

        By default numbers move from x - 1/2 to x + 1/2, columns of 0 and 1 from 0 to 1, factors from their reference to
        each level.

        Parameters
        ----------
        data, by, wts
            As for `avg_slopes`.
        variables : str, list of str or dict, optional
            A dict says how to change each: a number h, from x - h/2 to x + h/2; "sd", "iqr", "minmax", "unit" or
            "centered"; a pair of values to set; "reference", "pairwise" or "sequential" for the levels of a factor.
        comparison : {"difference", "ratio", "lift", "lnratio", "lnor"}
        **options
            Further options of margins, such as exponentiate=True for odds ratios from "lnor".

        Returns
        -------
        inference.margins.MarginsResult
        """
        options = {"discrete": "dummies"} | _named(by, wts, options)
        if not isinstance(variables, dict):
            options = {"change": "centered"} | options
            return self.margins(data, variables, comparison=comparison, **options)
        shifts = {name: (-value / 2, value / 2) for name, value in variables.items() if isinstance(value, numbers.Real)}
        words = {name: value for name, value in variables.items() if str(value) in effects.CHANGES}
        contrasts = {name: value for name, value in variables.items() if name not in shifts and name not in words}
        return self.margins(data, list(variables), comparison=comparison, change=shifts | words, contrast=contrasts,
                            **options)

    def avg_predictions(self, data, variables=None, by=None, wts=None, **options):
        """Average of E[y] over the rows, by group, or with variables set to values: `average_predictions`.

        Parameters
        ----------
        data, by, wts
            As for `avg_slopes`.
        variables : dict, optional
            `at` of average_predictions: a value, level or list of them a variable.
        **options
            Further options of average_predictions.

        Returns
        -------
        inference.margins.MarginsResult
        """
        options = {"at": "overall" if variables is None else variables} | _named(by, wts, options)
        return self.average_predictions(data, **options)


def _named(by, wts, options):
    """Options of margins, with marginaleffects' names for two of them."""
    for name, value, word in (("over", by, "by"), ("weights", wts, "wts")):
        if value is not None and options.get(name) is not None:
            raise ValueError(f"{word}= and {name}= are two names of one option: give one of them.")
    return {"over": by, "weights": wts} | options
