"""The classifiers: binary with any link, and logistic with two or more classes."""

import dataclasses

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from daskglm_rep import links, passes
from daskglm_rep.estimators import _ExactBase, _GLMBase, _Probabilities, documented, raw_basis
from daskglm_rep.kernels.gram import linear_predictor
from daskglm_rep.kernels.survey import survey
from daskglm_rep.models.glm import GLM
from daskglm_rep.models.multinomial import Multinomial
from daskglm_rep.preparation import small_plan
from daskglm_rep.summaries import Total


CLASS_WEIGHT = """    class_weight : dict or "balanced", optional
        Multiplies the weights of each class's rows; "balanced" gives all classes the same total, with one sweep more.
        Standard errors then need cov_type="HC1": the weights say nothing of how precise a row is.
"""


@dataclasses.dataclass(frozen=True)
class _Label:
    probabilities: _Probabilities
    classes: np.ndarray

    def __call__(self, eta):
        return self.classes[np.argmax(self.probabilities(eta), axis=1)]


def _decision(eta):
    if eta.ndim == 1:
        return eta
    full = np.c_[np.zeros(len(eta)), eta]
    return full - full.mean(axis=1, keepdims=True)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class _GLMClassifierBase(ClassifierMixin, _GLMBase):
    class_weight: dict | str | None = None

    _classify = True

    def _reweighted(self, data):
        given = self.class_weight
        if given is None:
            return data
        if given == "balanced":
            totals = passes.run(survey, data, None, small_plan(data, 1, 0), True).labels
            totals = {label: total for label, total in totals.items() if total > 0}
            given = {label: sum(totals.values()) / (len(totals) * total) for label, total in totals.items()}
        if not isinstance(given, dict) or not all(np.isfinite(w) and w >= 0 for w in given.values()):
            raise ValueError("class_weight must be 'balanced' or a dict from labels to weights >= 0, got "
                             f"{self.class_weight!r}.")
        return data.with_prepare(class_weights=tuple(given.items()))

    def _choose(self, weights, response):
        """Labels in the model's order and the model, as `preparation.prepare` asks."""
        try:
            classes = np.array(sorted(weights))
        except TypeError:
            kinds = " and ".join(sorted({type(label).__name__ for label in weights}))
            raise ValueError(f"{response} holds labels of several types, {kinds}, which have no order: make them all "
                             "text or all numbers.") from None
        if classes.dtype.kind == "f" and np.isinf(classes).any():
            raise ValueError(f"{response} contains infinite values (infinity): drop these rows, or give their class a "
                             "number.")
        if classes.dtype.kind == "f" and (classes != np.floor(classes)).any():
            raise ValueError(f"Unknown label type: continuous. {response} holds fractions such as "
                             f"{classes[classes != np.floor(classes)][0].item()!r}: use a regressor, or class labels.")
        strange = [label for label in self.class_weight if label not in classes] if isinstance(
            self.class_weight, dict) else []
        if strange:
            raise ValueError(f"class_weight names {strange[0]!r}, which is none of the classes "
                             f"{classes.tolist()[:10]}.")
        present = [label for label in classes.tolist() if weights[label] > 0]
        if len(present) < 2:
            raise ValueError(f"{response} has only one class, {present[0]!r}: a classifier needs at least 2 classes "
                             "with positive weight.")
        self.classes_ = classes = np.array(present)
        return classes[list(self._class_order(classes))], self._class_model(len(classes))

    def _class_order(self, classes):
        """Positions of the sorted classes in the model's order, baseline first."""
        return tuple(range(len(classes)))

    def _class_model(self, n_classes):
        if n_classes > 2:
            raise ValueError(f"Only binary classification is supported. The type of the target is multiclass: y has "
                             f"{n_classes} classes; use LogisticRegression.")
        return self._glm()

    def _publish(self, raw):
        first = int(self.fit_intercept)
        if raw.shape[0] == 1 and len(self.classes_) == 2:
            self.coef_ = raw[:, first:].copy()
            self.intercept_ = raw[:, 0].copy() if first else np.zeros(1)
            return
        full = np.vstack([np.zeros(raw.shape[1]), raw])
        full = self._symmetric(full - full.mean(axis=0))[np.argsort(self._class_order(self.classes_))]
        self.coef_ = full[:, first:].copy()
        self.intercept_ = full[:, 0].copy() if first else np.zeros(len(full))

    def _symmetric(self, full):
        """(J, q) raw coefficients: the penalty's own where it tells the classes apart; intercepts sum to zero."""
        fitted = self.results_.fitted
        if fitted.fit.symmetric is None:
            return full
        full = np.zeros_like(full)
        full[:, fitted.kept] = fitted.fit.objective.basis.raw(fitted.fit.symmetric).reshape(len(full), -1)
        if self.fit_intercept:
            full[:, 0] -= full[:, 0].mean()
        return full

    def _raw_predictor(self):
        raw = super()._raw_predictor()
        return raw if len(self.classes_) == 2 else (raw - raw[0])[1:]

    def _probabilities(self):
        check_is_fitted(self)
        return _Probabilities(self.results_.model)

    def predict_proba(self, X, offset=None, exposure=None):
        """Class probabilities in the order of `classes_`, (n, n_classes), of the kind that `predict` gives."""
        transform = self._probabilities()
        return self._predict_with(transform, X, offset, exposure, len(self.classes_), self.classes_)

    def predict_log_proba(self, X, offset=None, exposure=None):
        """Logarithms of `predict_proba`."""
        return np.log(self.predict_proba(X, offset, exposure))

    def decision_function(self, X, offset=None, exposure=None):
        """Linear predictor: (n,) for two classes, else (n, n_classes) symmetric ones that sum to zero."""
        check_is_fitted(self)
        J = len(self.classes_)
        return self._predict_with(_decision, X, offset, exposure, None if J == 2 else J, self.classes_)

    def predict(self, X, offset=None, exposure=None):
        """The most probable class of each row: numpy for numpy and pandas, else of the kind of X."""
        return self._predict_with(_Label(self._probabilities(), self.classes_), X, offset, exposure)

    def score(self, X, y, sample_weight=None, offset=None, exposure=None):
        """Share of rows (by weight) whose most probable class is theirs."""
        data = self._score_data(X, y, sample_weight, offset, exposure, raw_labels=True)
        right, total = passes.run(_label_matches, data, _Label(self._probabilities(), self.classes_),
                                  self._raw_predictor()).value
        return float(right / total)


def _label_matches(block, label, raw):
    guess = label(linear_predictor(block.X, raw_basis(raw.shape[1] - 1), raw.ravel(), block.offset))
    return Total(np.array([block.weight @ (guess == block.y), block.weight.sum()]))


@documented("""    link : str, default "logit"
        "logit", "probit", "cloglog", "loglog", "cauchit" or "log".
""" + CLASS_WEIGHT)
@dataclasses.dataclass(eq=False, repr=False)
class GLMClassifier(_GLMClassifierBase, _ExactBase):
    """Binary regression with any link, as a classifier; the model is of the probability of `classes_[1]`.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import GLMClassifier
    >>> X = np.array([[0.1], [0.4], [0.8], [1.1], [1.5], [1.9]])
    >>> model = GLMClassifier("probit").fit(X, ["no", "yes", "no", "no", "yes", "yes"])
    >>> model.predict(X[-2:])
    array(['yes', 'yes'], dtype='<U3')
    >>> model.predict_proba(X[:2]).round(3)
    array([[0.838, 0.162],
           [0.737, 0.263]])
    """

    link: str | links.Link = "logit"

    def _glm(self):
        return GLM.of("binomial", self.link)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


@documented("""    baseline : label, optional
        The class whose coefficients are zero in `results_` with three or more classes; default the first one.
""" + CLASS_WEIGHT)
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class LogisticRegression(_GLMClassifierBase, _ExactBase):
    """Logistic regression: two classes, or multinomial with three or more.

    With three or more classes `coef_` holds the symmetric coefficients, which sum to zero over classes; `results_`
    those against the baseline.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import LogisticRegression
    >>> X = np.array([[0.1], [0.4], [0.8], [1.1], [1.5], [1.9]])
    >>> model = LogisticRegression(baseline="car").fit(X, ["bus", "car", "bus", "walk", "car", "walk"])
    >>> model.predict(X[-2:])
    array(['walk', 'walk'], dtype='<U4')
    >>> model.results_.params.round(3).to_dict()
    {('bus', 'Intercept'): 1.583, ('bus', 'x0'): -2.344, ('walk', 'Intercept'): -2.902, ('walk', 'x0'): 2.334}
    """

    baseline: object = None

    def _glm(self):
        return GLM.of("binomial")

    def _class_model(self, n_classes):
        if n_classes == 2:
            return self._glm()
        return Multinomial(n_classes)

    def _class_order(self, classes):
        if self.baseline is None or len(classes) == 2:
            return tuple(range(len(classes)))
        found = np.flatnonzero(classes == self.baseline)
        if not found.size:
            raise ValueError(f"baseline={self.baseline!r} is none of the classes {list(classes)[:10]}.")
        first = int(found[0])
        return (first, *[j for j in range(len(classes)) if j != first])
