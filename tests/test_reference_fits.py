"""Every reference case of kind "fit": coefficients, standard errors and log-likelihood of R and statsmodels."""

import numpy as np
import pytest
from reference_fits import CASES, expected, fit


@pytest.mark.parametrize("name", CASES)
def test_coefficients_standard_errors_and_likelihood(name):
    case = CASES[name]
    results, _ = fit(case)
    assert results.converged
    want, tol = case["expected"], case["tol"]
    coef, se = expected(case, results, want["coef"]), expected(case, results, want["se"]["classical"])
    size = np.maximum(np.abs(coef), 1e-10)          # a coefficient that is zero by symmetry: absolute
    assert np.max(np.abs(results.params.to_numpy() - coef) / size) <= tol["coef_rtol"]
    assert np.max(np.abs(results.bse.to_numpy() / se - 1)) <= tol["se_rtol"]
    known = [want[key] for key in ("loglik", "loglik_R", "loglik_statsmodels") if want.get(key) is not None]
    if known:                                       # where the programs' conventions differ, one of them
        assert min(abs(results.llf / value - 1) for value in known) <= 1e-6
    for key, ours in (("deviance", results.deviance), ("null_deviance", results.null_deviance),
                      ("df_resid", results.df_resid), ("sigma2", results.scale)):
        if want.get(key) is not None:
            assert ours == pytest.approx(want[key], rel=1e-6, abs=1e-9), key


def test_the_published_cases_are_there():
    assert len([name for name in CASES if not name.startswith("madlib")]) >= 20
    if not any(name.startswith("madlib") for name in CASES):
        pytest.skip("the madlib cases live in the optional sibling folder, which is absent")


def test_nist_longley():
    """Certified values of NIST's statistical reference data: columns correlated to 0.9999, here to 1e-8."""
    case = CASES["ols_longley_nist"]
    results, nist = fit(case)[0], case["expected"]["nist"]
    assert results.params.to_numpy() == pytest.approx(nist["coef"], rel=1e-8)
    assert results.bse.to_numpy() == pytest.approx(nist["se"], rel=1e-8)
    assert results.rsquared == pytest.approx(nist["r2"], rel=1e-8)
    assert np.sqrt(results.scale) == pytest.approx(nist["resid_sd"], rel=1e-8)
