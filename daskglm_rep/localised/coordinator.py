"""The coordinator: questions, the sites' answers, and the library's fit on what they sum to.

A fit is a function of the answers so far. It runs from the start each time, on summaries, until it wants an answer that
is not there: that is the next question. So a study is its files, and nothing else is kept between round trips.

First comes the survey: the sites' counts, moments and their own fits. The sum of those is where the rounds start.
"""

import dataclasses
import functools
import hashlib
import math

import numpy as np
import pandas as pd

from daskglm_rep.diagnostics import independent
from daskglm_rep.fitted import Fit, Fitted
from daskglm_rep.inference.clustered import WORDS, correction, note_of
from daskglm_rep.inference.covariance import POWERS, model_based
from daskglm_rep.inference.sandwich import Options, degrees, in_raw_columns
from daskglm_rep.inference.sandwich import bread as bread_of
from daskglm_rep.localised import wire
from daskglm_rep.localised.design import Design, in_order
from daskglm_rep.localised.effects import average_effects
from daskglm_rep.localised.local_models import LocalModel, LocalModels, own_basis
from daskglm_rep.localised.messages import Message, square
from daskglm_rep.localised.points import SitePoints
from daskglm_rep.localised.rounds import Rounds
from daskglm_rep.models.glm import GLM
from daskglm_rep.models.multinomial import Multinomial
from daskglm_rep.objective import Objective, inverse
from daskglm_rep.results import GLMResults
from daskglm_rep.settings import check_choice
from daskglm_rep.summaries import Moments, Survey
from daskglm_rep.telling import AliasWarning, tell

COV_TYPES = ("nonrobust", *POWERS, "cluster")


class Waiting(Exception):
    """An answer is wanted that has not come; holds the question."""

    def __init__(self, question):
        self.question = question


class Coordinator:
    """A model fitted on what sites answer.

    Parameters
    ----------
    formula : str
        "y ~ age + C(ward) + age:C(ward)": column names, C(column) for factors, and products.
    family : str or families.Family, default "gaussian"
        Or "multinomial".
    link : str or links.Link, optional
    cov_type : {"nonrobust", "HC0", "HC1", "HC2", "HC3", "HC4", "HC4m", "cluster"}
    clusters : str, optional
        Column of cluster labels; a cluster lies within one site.
    weights, offset : str, optional
        Columns.
    classes : sequence of str, optional
        Of a multinomial model, the baseline first; default those that the sites have, in order.
    levels : dict of str to sequence, optional
        Of factors, the reference first; default those that the sites have, in order.
    effects : bool or list of str, default False
        Ask for average marginal effects too, of all variables or of those named: one round more.
    points : int, default 0
        Ask for points of so many parts in each chunk of rows: `points_.refit(...)` then fits other models of the
        response without asking again, for screening; one round more.
    tol : float, default 1e-7
        Distance to the optimum, in standard errors.

    Attributes
    ----------
    answers : list of lists of Message
        Those of each question in turn.
    results_ : GLMResults
    effects_ : MarginsResult or None
    points_ : points.SitePoints or None
    n_rounds_ : int
        Round trips.
    epsilon_ : dict
        Privacy spent at each site, where some add noise; the model then is of known dispersion.
    audit_ : DataFrame
        A line a message, both ways.
    coef_path_ : (rounds, k) array

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from daskglm_rep.localised import Coordinator, Site
    >>> rng = np.random.default_rng(0)
    >>> frames = [pd.DataFrame({"age": rng.normal(60, 9, 500), "y": rng.poisson(2, 500)}) for _ in range(2)]
    >>> sites = [Site(frame, name=name) for frame, name in zip(frames, ("north", "south"))]
    >>> coordinator = Coordinator("y ~ age", "poisson")
    >>> results = coordinator.fit(sites)
    >>> int(results.nobs), coordinator.n_rounds_
    (1000, 3)
    """

    def __init__(self, formula, family="gaussian", link=None, *, cov_type="nonrobust", clusters=None, weights=None,
                 offset=None, classes=None, levels=None, effects=False, points=0, tol=1e-7):
        check_choice("cov_type", cov_type, COV_TYPES)
        if (cov_type == "cluster") != (clusters is not None):
            raise ValueError("cov_type='cluster' and clusters='column' go together: give both or neither.")
        self.is_multinomial = family == "multinomial"
        if self.is_multinomial and any(POWERS.get(cov_type, ())):
            raise ValueError(f"cov_type={cov_type!r} is not defined for multinomial models: use HC0, HC1 or cluster.")
        self.model = None if self.is_multinomial else GLM.of(family, link)
        if self.model is not None and self.model.estimates_alpha:
            raise ValueError("A negative binomial needs its alpha here: family=NegativeBinomial(0.5).")
        if points and self.is_multinomial:
            raise ValueError("points= takes models of one equation: fit one model a class.")
        if classes is not None and not self.is_multinomial:
            raise ValueError("classes= belongs to family='multinomial': leave it out.")
        levels = {name: tuple(map(str, values)) for name, values in (levels or {}).items()}
        self.design = Design.of(formula, weights=weights, offset=offset, clusters=clusters, levels=levels,
                                classes=None if classes is None else tuple(map(str, classes)))
        stray = [name for name in levels if name not in self.design.factors]
        if stray:
            raise ValueError(f"levels= names {stray[0]!r}, which is no factor of {formula!r}: write C({stray[0]}).")
        self.formula, self.cov_type, self.effects, self.points, self.tol = formula, cov_type, effects, points, tol
        self.answers, self.asked = [], []
        self.results_ = self.effects_ = self.points_ = None
        said = repr((self.design, self.model, cov_type, effects, points, tol))
        self.study = hashlib.sha256(said.encode()).hexdigest()[:12]

    # ------------------------------------------------------------ round trips

    def question(self):
        """The next question, or None when the fit is done and `results_` stands."""
        self.asked, self._models = [], None
        try:
            self._fit()
        except Waiting as waiting:
            return waiting.question
        return None

    def receive(self, answers):
        """Take all sites' answers to the last question.

        Parameters
        ----------
        answers : list of Message or bytes

        Raises
        ------
        ValueError
            A refusal, with the site's reason; answers to another question; a site twice or missing.
        """
        question = self.question()
        if question is None:
            raise ValueError("The fit is done and asks nothing more: read results_.")
        answers = sorted((Message.from_bytes(a) if isinstance(a, bytes) else a for a in answers),
                         key=lambda a: str(a.facts.get("site")))
        names = [a.facts.get("site") for a in answers]
        before = [a.facts["site"] for a in self.answers[0]] if self.answers else names
        if not answers or len(set(names)) < len(names) or names != before:
            raise ValueError(f"Answers came from {', '.join(map(str, names)) or 'no site'}; the study is between "
                             f"{', '.join(map(str, before)) or 'some sites'}: each answers every question once.")
        asked = hashlib.sha256(question.to_bytes()).hexdigest()
        for answer in answers:
            site = answer.facts["site"]
            if answer.kind == "refusal":
                raise ValueError(f"Site {site!r} does not answer question {question.facts['number']}: "
                                 f"{answer.facts['reason']}.")
            if answer.kind != question.kind or answer.facts.get("asked") != asked:
                raise ValueError(f"The file of site {site!r} answers another question than number "
                                 f"{question.facts['number']} of study {self.study}: ask it again.")
            wire.check_answer(answer, question)
        self.answers.append(answers)

    def fit(self, sites):
        """Ask sites until the fit is done.

        Parameters
        ----------
        sites : list of Site, or callable from a question to the list of answers

        Returns
        -------
        GLMResults
        """
        ask = sites if callable(sites) else lambda question: [site.answer(question) for site in sites]
        while (question := self.question()) is not None:
            self.receive(ask(question))
        return self.results_

    def _ask(self, kind, facts=None, arrays=None):
        """Answers to the next question in order; raises `Waiting` where they are still to come."""
        number = len(self.asked)
        model = {"multinomial": len(self.design.classes or ())} if self.is_multinomial else wire.pack_model(self.model)
        facts = {"study": self.study, "number": number + 1, "model": model, "design": self._design.to_json()} | (
            facts or {})
        question = Message(kind, facts, arrays or {})
        if number == len(self.answers):
            raise Waiting(question)
        self.asked.append(question)
        self.n_passes += 1
        return self.answers[number]

    @property
    def n_rounds_(self):
        return len(self.answers)

    @property
    def coef_path_(self):
        """Raw coefficients that the sites were asked about, round by round, and the last ones: (rounds, k) array."""
        asked = [(wire.unpack_basis(q.arrays), q.arrays["coef"]) for q in self.asked if q.kind in ("moments", "score")]
        fit = self.results_.fitted.fit
        return np.array([basis.raw(coef) for basis, coef in asked + [(fit.objective.basis, fit.point.coef)]])

    @property
    def audit_(self):
        """What was asked and answered: a line a message."""
        lines = []
        for question, answers in zip(self.asked, self.answers):
            lines.append((question.facts["number"], "coordinator", "all sites", question.kind, question.n_numbers,
                          len(question.to_bytes())))
            lines += [(question.facts["number"], a.facts["site"], "coordinator", a.kind, a.n_numbers,
                       len(a.to_bytes())) for a in answers]
        return pd.DataFrame(lines, columns=["round", "sender", "receiver", "kind", "numbers", "bytes"])

    # ------------------------------------------------------------ the fit

    def _fit(self):
        self.n_passes, self._design = 0, self.design
        found, model, local = self._survey()
        basis = own_basis(found.columns, self.design.intercept)
        if found.response.n_kept <= model.n_equations * basis.n_coef:
            raise ValueError(f"The sites hold {found.response.n_kept:.0f} rows for {model.n_equations * basis.n_coef} "
                             "coefficients: leave columns out.")
        share = sum(w for _, w in local) / found.response.weight
        models = LocalModels([m for m, _ in local], share) if local else None
        kept = self._independent(models, model, basis, found)
        objective = Objective(model, basis.keep(np.flatnonzero(kept)))
        n_rows, names = found.response.n_kept, self._design.names()
        moments = functools.partial(self._moments, objective.basis, n_rows)
        rounds = Rounds(objective, models, found, moments, self.cov_type != "nonrobust", self.tol, names)
        fit, meat, added = (*rounds.run(), None) if not self._noisy_rounds else self._noisy(rounds)
        null = model.null_deviance(found.response, self.design.intercept, found.labels)
        null = math.nan if found.has_offset else null
        self._fitted = Fitted(fit, found, names, kept, n_rows, self.n_passes, None, null)
        covariance = self._covariance(meat) if meat is not None else model_based(self._fitted)
        covariance = covariance if added is None else self._with_noise(covariance, added)
        classes = None if self.design.classes is None and not self.is_multinomial else self._design.classes
        results = GLMResults(self._fitted, covariance, classes, self.design.response)
        if self.effects:
            chosen = None if self.effects is True else list(self.effects)
            self.effects_ = average_effects(results, self._design, self._ask, chosen)
        if self.points:
            arrays = wire.pack_basis(fit.objective.basis) | {"coef": fit.point.coef}
            answers = self._ask("points", {"parts": int(self.points)}, arrays)
            self.points_ = SitePoints(answers, results, self.design.offset is not None)
        self.results_ = results

    def _survey(self):
        """Merged survey, the model with its classes, and the sites' own fits with their weights."""
        answers, found, local = self._ask("survey"), None, []
        levels = {name: self.design.levels.get(name) or in_order({v for a in answers for v in a.facts["levels"][name]})
                  for name in self.design.factors}
        classes = self.design.classes
        if self.is_multinomial and classes is None:
            classes = in_order({c for a in answers for c in a.facts["classes"]})
        self._design = dataclasses.replace(self.design, levels=levels, classes=classes)
        rounds = [a.facts["noisy_rounds"] for a in answers if "noisy_rounds" in a.facts]
        self._noisy_rounds = min(rounds, default=0)
        model = Multinomial(len(classes)) if self.is_multinomial else self.model
        names = self._design.names()
        for answer in answers:
            own = dataclasses.replace(self._design, levels={k: tuple(v) for k, v in answer.facts["levels"].items()})
            spread = wire.unpack_spread({k.removeprefix("columns_"): v for k, v in answer.arrays.items()
                                         if k.startswith("columns_")})
            spread = _placed(spread, own.names(), names)
            response = wire.unpack_response(answer.arrays["response"], None if self.is_multinomial else model.family)
            labels = answer.facts.get("classes", {})
            survey = Survey((answer.facts["rows"],), spread, np.zeros(len(names)), np.zeros(len(names)), np.zeros(2),
                            response, labels, (), False, answer.facts["has_offset"], float(answer.facts["n_missing"]))
            found = survey if found is None else found.merge(survey)
            same = own.names() == names and (not self.is_multinomial or tuple(labels) == classes)
            arrays = {k.removeprefix("local_"): v for k, v in answer.arrays.items() if k.startswith("local_")}
            if arrays and same:
                local.append((LocalModel.unpack(arrays, wire.unpack_basis(arrays)), response.weight))
        return found, model, local

    def _independent(self, models, model, basis, found):
        """Columns that the sites' rows tell apart, by the sum of their informations or else by their spread."""
        if models is None:
            scale = found.columns.squares > 0
            return np.r_[[True] * self.design.intercept, scale if self.design.intercept else scale | True].astype(bool)
        q, H = basis.n_coef, models.information(model, basis)
        kept = independent(H[:q, :q])
        if not kept.all():
            names = ["Intercept"] * self.design.intercept + self._design.names()
            lost = [n for n, k in zip(names, kept) if not k]
            tell(f"{len(lost)} of {q} columns are constant or linear combinations of earlier ones at all sites: "
                 f"{', '.join(map(repr, lost[:10]))}. They are reported as NaN, the others are fitted.", AliasWarning)
        return kept

    def _moments(self, basis, n_rows, coef, robust, bread):
        """Merged moments at coefficients, and the middle of the sandwich with the number of clusters where wanted."""
        facts, arrays = {"cov_type": "nonrobust"}, wire.pack_basis(basis) | {"coef": coef}
        if robust:
            facts = {"cov_type": "cluster" if self.cov_type == "cluster" else "HC",
                     "power": list(POWERS.get(self.cov_type, (0.0,) * 3)), "per_row": n_rows / coef.size}
            if any(facts["power"]):
                arrays["bread"] = bread
        answers, total, meat = self._ask("moments", facts, arrays), None, 0.0
        for answer in answers:
            moments = wire.unpack_moments(answer.arrays)
            total = moments if total is None else total.merge(moments)
            meat = meat + square(answer.arrays["meat"]) if robust else None
        return total, (meat, sum(a.facts.get("n_clusters", 0) for a in answers)) if robust else None

    def _noisy(self, rounds):
        """Fisher steps on noisy scores where a site's rules ask for noise; sites without such rules add none."""
        objective, said = rounds.objective, {}

        def scores(coef):
            answers = self._ask("score", {}, wire.pack_basis(objective.basis) | {"coef": coef})
            score = sum(a.arrays["score"] for a in answers)
            said.update({a.facts["site"]: a.facts["epsilon_spent"] for a in answers})
            return score, sum(square(a.arrays["expected"]) for a in answers), math.sqrt(
                sum(a.facts["noise"] ** 2 for a in answers))

        coef, information, added = rounds.noisy(scores, self._noisy_rounds)
        self.epsilon_ = said
        moments = Moments(np.zeros_like(coef), information, information, math.nan, math.nan)
        point = objective.point(coef, moments)
        away = math.sqrt(np.max(np.diag(added) / np.diag(inverse(information))))
        return Fit(objective, point, np.zeros_like(coef), away, self._noisy_rounds, False), None, added

    def _with_noise(self, covariance, added):
        """The model's covariance and the noise's: both are errors of the published numbers."""
        basis = self._fitted.fit.objective.basis
        return dataclasses.replace(covariance, matrix=covariance.matrix + basis.covariance(added),
                                   standardised=covariance.standardised + added,
                                   note="with differential privacy: errors hold the noise, not the bias of clipping")

    def _covariance(self, meat):
        """The sandwich of the sites' middles, as `inference` makes it of rows."""
        (matrix, n_clusters), fitted, options = meat, self._fitted, Options()
        A, n, k = bread_of(fitted), fitted.n_rows, fitted.fit.point.coef.size
        if self.cov_type != "cluster":
            matrix = matrix * (n / (n - k)) if self.cov_type == "HC1" else matrix
            return in_raw_columns(fitted, A @ matrix @ A, self.cov_type, degrees(fitted, options))
        sizes = (n_clusters,)
        matrix = A @ matrix @ A * correction(fitted, n_clusters, options.correction)
        return in_raw_columns(fitted, matrix, "cluster", degrees(fitted, options, sizes), note_of(sizes, k), sizes,
                              WORDS[options.correction])


def _placed(spread, names, all_names):
    """A site's spread among all columns: zeros in the columns of levels that it does not have."""
    if names == all_names:
        return spread
    place = [all_names.index(name) for name in names if name in all_names]
    own = [j for j, name in enumerate(names) if name in all_names]
    values = []
    for array in (spread.mean, spread.squares, spread.low, spread.high):
        full = np.zeros(len(all_names))
        full[place] = array[own]
        values.append(full)
    return type(spread)(spread.weight, *values)
