"""A point of the objective and what is kept with it: factors and inverses made once, and not sent."""

import dataclasses
import pickle

import numpy as np
import pytest

from daskglm_rep import LogisticRegression, objective
from daskglm_rep.kernels.block import Basis
from daskglm_rep.objective import Factored, Point

RNG = np.random.default_rng(5)
A = RNG.normal(size=(6, 6)) @ np.diag([100.0, 10.0, 1.0, 1.0, 0.1, 0.01])
MATRIX = A.T @ A


def test_factored_is_the_plain_inverse_and_solution():
    found = Factored(MATRIX)
    np.testing.assert_allclose(found.inverse, np.linalg.inv(MATRIX), rtol=1e-6)
    np.testing.assert_allclose(MATRIX @ found.solve(MATRIX[:, 2]), MATRIX[:, 2], rtol=1e-9)
    assert found.inverse is found.inverse and Factored(-MATRIX).solve(MATRIX[0]) is None
    assert np.isnan(Factored(-MATRIX).inverse).all() and Factored(np.zeros((0, 0))).inverse.size == 0
    with pytest.raises(ValueError):
        found.inverse[0, 0] = 1.0


def test_a_changed_point_has_factors_of_its_own_and_none_travel():
    point = Point(np.zeros(6), None, 0.0, np.zeros(6), MATRIX, MATRIX)
    assert point.by_hessian is point.by_curvature
    inverse = point.by_curvature.inverse
    other = dataclasses.replace(point, curvature=2.0 * MATRIX)
    np.testing.assert_allclose(2.0 * other.by_curvature.inverse, inverse, rtol=1e-12)
    np.testing.assert_array_equal(other.by_hessian.inverse, inverse)
    sent = pickle.loads(pickle.dumps(point))
    assert len(pickle.dumps(point)) == len(pickle.dumps(sent)) and set(vars(sent)) == {
        f.name for f in dataclasses.fields(Point)}
    np.testing.assert_array_equal(sent.by_hessian.inverse, inverse)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("n_equations", [1, 3])
def test_variances_are_the_diagonal_of_the_covariance(intercept, n_equations):
    basis = Basis(np.arange(4), RNG.normal(size=4), RNG.random(4) + 0.5, intercept)
    k = n_equations * basis.n_coef
    half = RNG.normal(size=(k, k))
    cov = half @ half.T
    np.testing.assert_allclose(basis.variances(cov), np.diag(basis.covariance(cov)), rtol=1e-12)


def test_a_point_is_factored_once_for_each_of_its_matrices(monkeypatch):
    seen, factor = [], objective._factor
    monkeypatch.setattr(objective, "_factor", lambda matrix: seen.append(matrix) or factor(matrix))
    X = RNG.normal(size=(3_000, 5))
    LogisticRegression().fit(X, RNG.random(3_000) < 1 / (1 + np.exp(-X[:, 0]))).results_.summary()
    assert len({id(matrix) for matrix in seen}) == len(seen)
