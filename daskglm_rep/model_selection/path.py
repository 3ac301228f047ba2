"""The path of penalties alone."""

import dataclasses
import math

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskglm_rep import families, links, plotting, progress
from daskglm_rep.model_selection.base import PARAMETERS, _PathBase
from daskglm_rep.models.glm import GLM
from daskglm_rep.settings import check_number
from daskglm_rep.solvers.selection import solve_paths
from daskglm_rep.solvers.splits import undivided


@dataclasses.dataclass(eq=False, repr=False)
class ElasticNetPath(_PathBase):
    """Fits of one model under falling penalties: a linear model's path of any length takes one sweep after the survey.

    Minimised are `(1 / sum w) sum w d(y, mu) / 2 + alpha (l1_ratio |b|_1 + (1 - l1_ratio) / 2 |b|^2)`, intercept free.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import ElasticNetPath
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 5))
    >>> path = ElasticNetPath(n_alphas=20).fit(X, X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=200))
    >>> path.coefs_.shape, path.df_[0].item(), path.df_[-1].item()
    ((5, 20), 0, 5)
    """

    family: str | families.Family = "gaussian"
    link: str | links.Link | None = None
    l1_ratio: float = dataclasses.field(default=1.0, kw_only=True)

    def _glm(self):
        return GLM.of(self.family, self.link)

    def fit(self, X, y, sample_weight=None, offset=None, exposure=None):
        """Fit the path.

        Parameters
        ----------
        X, y, sample_weight, offset, exposure
            As for `GLMRegressor.fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad input or parameters, each in one sentence.
        """
        settings = self._settings()
        with progress.shown(self.verbose):
            data = self._build(X, y, sample_weight, offset, exposure).coalesced()
            prepared = self._prepare(data)
            paths = solve_paths(prepared, undivided(prepared.data.lengths), settings)
        self._publish_path(prepared, paths.coefs[0, 0], paths.alphas[0])
        self.df_ = (self.coefs_ != 0.0).sum(axis=0)
        null = paths.null_deviance
        self.dev_ratio_ = 1.0 - paths.deviance[0] / null if null else np.zeros(len(self.alphas_))
        self.null_deviance_, self.n_passes_ = null, data.n_passes
        self.n_iter_, self.converged_ = paths.n_sweeps, paths.distance <= self.tol
        self.distance_to_optimum_ = paths.distance
        return self

    def coefficients(self, alpha):
        """Intercept and coefficients at any alpha within the path, linear between its neighbours.

        Parameters
        ----------
        alpha : float

        Returns
        -------
        intercept : float
        coef : (n_features,) array

        Raises
        ------
        ValueError
            An alpha outside the path.
        """
        check_is_fitted(self)
        least = self.alphas_[-1]
        check_number("alpha", alpha, lambda v: least <= v < math.inf, f">= {least:g}, the smallest of the path")
        rising = self.alphas_[::-1]
        intercept = np.interp(alpha, rising, self.intercepts_[::-1])
        return float(intercept), np.array([np.interp(alpha, rising, row[::-1]) for row in self.coefs_])

    def plot(self, ax=None):
        """Draw the coefficients along the path.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib Axes
        """
        check_is_fitted(self)
        return plotting.plot_path(self, ax)


ElasticNetPath.__doc__ += PARAMETERS.format(head="""    family : str or families.Family, default "gaussian"
    link : str or links.Link, optional
        Default: the family's.
    l1_ratio : float in [0, 1], default 1
        Share of the absolute-value penalty.
""") + """
    Attributes
    ----------
    alphas_ : (n_alphas,) array
        Falling.
    coefs_ : (n_features, n_alphas) array
    intercepts_, dev_ratio_, df_ : (n_alphas,) array
        `dev_ratio_` is the share of the null deviance that is explained, `df_` counts coefficients that are not zero.
    null_deviance_ : float
        Of the model with the intercept alone.
    n_passes_ : float
        Sweeps over the data: chunk loads / chunks.
    n_iter_ : int
        Of them those that evaluated fits.
    converged_ : bool
    distance_to_optimum_ : float
        Of the worst fit, in standard errors.
    n_features_in_, feature_names_in_
"""
