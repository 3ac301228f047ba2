"""The vector family: multinomial responses by softmax with a baseline category."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Multinomial:
    """J classes, J - 1 equations: eta_j = x'b_j for classes 1..J-1, eta_0 = 0; p_j = exp(eta_j) / sum_l exp(eta_l).

    Score rows are (1[y = j] - p_j) x, information rows (diag(p) - p p') kron x x' (regression-design chapter, with the
    sign of its off-diagonal weights and the exponent of its likelihood put right).

    Parameters
    ----------
    n_classes : int
        J >= 2; class codes are 0..J-1, code 0 the baseline.
    """

    n_classes: int
    canonical = 1.0
    is_canonical = True
    is_steady = True          # along any direction, with the largest difference of two linear predictors
    dispersion_known = True
    estimates_alpha = False
    always_valid = True

    @property
    def n_equations(self):
        return self.n_classes - 1

    def __str__(self):
        return f"multinomial logit, {self.n_classes} classes"
