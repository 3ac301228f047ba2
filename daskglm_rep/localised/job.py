"""One question at a site: which rows it is about, what the rules say, and the sums that answer it."""

import dataclasses
import hashlib
import math

import numpy as np
import pandas as pd

from daskglm_rep import passes, sources
from daskglm_rep.inference.covariance import POWERS
from daskglm_rep.inference.margins.effects import MeanPrediction, Slope
from daskglm_rep.inference.margins.sweep import EffectPlan, RawCoefficients, effect_sums
from daskglm_rep.kernels.clusters import cluster_scores
from daskglm_rep.kernels.meat import Adjustment, block_meat
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.survey import survey
from daskglm_rep.localised import guard, wire
from daskglm_rep.localised.design import OTHER, Design, Merged, Rows, as_text, in_order, usable
from daskglm_rep.localised.local_models import LocalModel, onto, own_basis
from daskglm_rep.localised.messages import Message, triangle
from daskglm_rep.localised.points import plan_of
from daskglm_rep.localised.rules import Refused
from daskglm_rep.partitions import Layout
from daskglm_rep.preparation import Prepared, basis_of, check, pilot_plan
from daskglm_rep.representatives.collection import collect_block
from daskglm_rep.summaries import Total


@dataclasses.dataclass(frozen=True)
class Levels:
    """Weights and rows of each level of some columns."""

    rows: dict

    def merge(self, other):
        rows = {name: dict(counts) for name, counts in self.rows.items()}
        for name, counts in other.rows.items():
            for level, n in counts.items():
                rows[name][level] = rows[name].get(level, 0) + n
        return Levels(rows)


def count_levels(frame, design, names):
    """Kernel: rows of each level among the complete rows of a frame."""
    frame, _ = usable(frame, dataclasses.replace(design, levels={}, classes=None))
    return Levels({name: pd.Series(as_text(frame[name]), dtype=object).value_counts().to_dict() for name in names})


def hash_frame(frame, design):
    """Kernel: hashes of the rows that a design uses."""
    kept, _ = usable(frame, design)
    return guard.Sets((guard.hash_rows(kept),))


def extreme_values(block, least):
    """Kernel: the `least` smallest and largest values of each column, which stay at the site."""
    X = block.X[block.weight > 0]
    return _Extremes(np.sort(X, axis=0)[:least], np.sort(X, axis=0)[::-1][:least])


@dataclasses.dataclass(frozen=True)
class _Extremes:
    low: np.ndarray
    high: np.ndarray

    def merge(self, other):
        n = max(len(self.low), len(other.low))
        low, high = (np.sort(np.concatenate(pair), axis=0) for pair in ((self.low, other.low), (self.high, other.high)))
        return _Extremes(low[:n], high[::-1][:n])


class Job:
    """One question at a site.

    Attributes
    ----------
    rows : (n,) array
        Sorted hashes of the rows behind the answer.
    n_rows, n_values : int
    at : dict or None
        What the ledger keeps of where a score was taken.
    """

    def __init__(self, site, question, asked):
        self.site, self.question, self.asked, self.rules = site, question, asked, site.rules
        self.design = Design.from_json(question.facts["design"])
        self.at, self.names = None, []
        self._code()
        self._check_rows()

    def answer(self):
        kind = self.question.kind
        work = {"survey": self._survey, "moments": self._moments, "effects": self._effects, "points": self._points,
                "score": self._score}
        if kind not in work:
            raise ValueError(f"The question is of kind {kind!r}, which a site does not answer.")
        if self.rules.is_noisy and kind not in ("survey", "score"):
            raise Refused("epsilon: this site answers surveys and noisy scores alone")
        return work[kind]()

    # ------------------------------------------------------------ rows and their rules

    def _data(self, recipe):
        """The site's chunks read by a recipe of frames."""
        chunks = sources.chunks(self.site.table)
        return chunks.read_with(Merged(recipe, self.rare, self.dropped), self.names)

    def _code(self):
        """Levels and classes: rare levels under one name, the rest as the question says or as they are here."""
        self.rare, self.dropped, design = {}, (), self.design
        discrete = [*design.factors, *([design.response] if "multinomial" in self.question.facts["model"] else [])]
        self.counts = {}
        if discrete:
            self.counts = passes.run(count_levels, self._data(None), design, discrete).rows
        for name in design.factors:
            rare = [level for level, n in self.counts[name].items() if n < self.rules.least_rows]
            if rare and self.rules.rare_levels == "refuse":
                raise Refused(f"least_rows: a level of {name!r} has fewer than {self.rules.least_rows} rows")
            if rare:
                self.rare[name] = rare
                n = sum(self.counts[name].pop(level) for level in rare)
                if n >= self.rules.least_rows:
                    self.counts[name][OTHER] = n
                else:
                    self.dropped += (name,)
        if "multinomial" in self.question.facts["model"]:
            few = [c for c, n in self.counts[design.response].items() if n < self.rules.least_rows]
            if few:
                raise Refused(f"least_rows: a class of {design.response!r} has fewer than {self.rules.least_rows} rows")
        self._check_covered()
        levels = {name: design.levels.get(name) or in_order(self.counts[name]) for name in design.factors}
        classes = design.classes
        if classes is None and "multinomial" in self.question.facts["model"]:
            classes = in_order(self.counts[design.response])
        self.design = dataclasses.replace(design, levels=levels, classes=classes)
        self.model = wire.unpack_model(self.question.facts["model"], classes and len(classes))

    def _check_covered(self):
        """A question is about all rows: levels that it does not name would cut out subsets."""
        named = dict(self.design.levels)
        if self.design.classes is not None:
            named[self.design.response] = self.design.classes
        for name, levels in named.items():
            if set(self.counts[name]) - set(levels):
                raise Refused(f"levels: the question leaves out levels of {name!r} that the site has")

    def _check_rows(self):
        design, rules, ledger = self.design, self.rules, self.site.ledger
        self.names = design.names()
        self.data = self._data(Rows(design))
        self.rows = passes.run(hash_frame, self._data(None), design).sorted
        self.n_rows = len(self.rows)
        self.n_values = self.n_rows * len(design.columns)
        if self.n_rows < rules.least_rows:
            raise Refused(f"least_rows: the site has fewer than {rules.least_rows} complete rows")
        self.roles = {role: getattr(design, role) for role in ("response", "weights", "offset", "clusters")}
        role, column = ledger.frozen(self.roles)
        if role is not None:
            raise Refused(f"frozen: the {role} of this site's answers are {column or 'none'!r} since its first one")
        if ledger.smallest_atom(self.rows) < rules.least_rows:
            raise Refused(f"difference: fewer than {rules.least_rows} rows tell this question's rows from those of "
                          "earlier ones")
        values = passes.run(guard.column_values, self.data)
        spread = passes.run(guard.column_spread, self.data)
        squares = passes.run(guard.carried_squares, self.data, spread.mean)
        self.basis = own_basis(spread, design.intercept)
        n_coef = self.model.n_equations * (len(self.names) + design.intercept)
        guard.check_columns(values, squares, self.names, self.n_rows, n_coef, rules)
        self._check_combinations()

    def _check_combinations(self):
        """Rules about sums of pairs of columns and about combinations of columns, the factors' references too."""
        design, rules = self.design, self.rules
        full = dataclasses.replace(design, levels={name: ("", *levels) for name, levels in design.levels.items()})
        data = self._data(Rows(full))
        binary = [j for j, found in enumerate(passes.run(guard.column_values, data).rows[:-1])
                  if found is not None and set(found) <= {0.0, 1.0}]
        sums = passes.run(guard.cells, data, binary).value
        guard.check_cells(sums, ["1", *(full.names()[j] for j in binary)], rules)
        inverse = np.linalg.pinv(passes.run(guard.gram, self.data, self.basis).value, 1e-10, hermitian=True)
        guard.check_leverage(passes.run(guard.leverages, self.data, self.basis, inverse), rules, "design")

    def _check_scores(self, basis, coef):
        """Rules about scores at coefficients, against all points that were answered under this design and model."""
        own, design = self.basis, self.design
        mine = onto(own, basis, self.model.n_equations) @ coef
        here = {"model": self.question.facts["model"], "columns": self.names, "response": design.response,
                "raw": own.raw(mine).tolist(), "design": design.to_json(), "rare": [self.rare, self.dropped]}
        same = [e.at["raw"] for e in self.site.ledger.answered if e.at is not None and all(
            e.at[name] == here[name] for name in ("model", "columns", "response")) and len(e.at["raw"]) == mine.size]
        past = [own.standardised(np.array(raw)) for raw in same]
        carried = passes.run(guard.carried_scores, self.data, self.model, own, mine, past)
        guard.check_scores(carried, len(past), mine.size, self.rules)
        raw = guard.with_intercept(here["raw"], self.model, design.intercept)
        bent = passes.run(guard.bent_gram, self.data, own, self.model, raw).value
        inverses = np.linalg.pinv(bent, 1e-10, hermitian=True)
        guard.check_leverage(passes.run(guard.bent_leverages, self.data, own, self.model, raw, inverses), self.rules,
                             "information")
        points = [_point(at) for at in [here, *(e.at for e in self.site.ledger.answered if e.at is not None)]
                  if at["response"] == design.response]
        points = [p for p in points if p[2].n_equations == self.model.n_equations]
        if len(points) > 1:
            changes = passes.run(guard.carried_changes, sources.chunks(self.site.table).read_with(
                Merged(None, {}), self.names), points)
            guard.check_changes(changes.effective, self.rules)
        self.at = here

    # ------------------------------------------------------------ answers

    def _survey(self):
        classify = self.design.classes is not None
        family = None if classify else self.model.family
        found = passes.run(survey, self.data, family, pilot_plan(self.data, 0), classify)
        check(found, self.data, family)
        least = self.rules.least_rows
        ends = passes.run(extreme_values, self.data, least)
        low, high = ends.low.mean(axis=0), ends.high.mean(axis=0)
        arrays = {f"columns_{k}": v for k, v in wire.pack_spread(found.columns, low, high).items()}
        arrays["response"] = wire.pack_response(found.response)
        facts = {"rows": self.n_rows, "n_missing": int(found.n_missing), "has_offset": bool(found.has_offset),
                 "levels": {name: list(levels) for name, levels in self.design.levels.items()}}
        if self.rules.is_noisy:
            facts["noisy_rounds"] = self.rules.noisy_rounds
        if classify:
            facts["classes"] = {self.design.classes[int(code)]: float(w) for code, w in sorted(found.labels.items())}
        local = None if self.rules.is_noisy else self._own_fit(found)
        if local is not None:
            arrays |= {f"local_{k}": v for k, v in (local.pack() | wire.pack_basis(local.basis)).items()}
        return Message("survey", facts, arrays)

    def _own_fit(self, found):
        """The site's own expansion, without third derivatives where they would be many numbers, if the rules let it."""
        model = self.model.for_responses(found.response)
        basis = basis_of(found, self.design.intercept)
        k = model.n_equations * basis.n_coef
        if self.design.classes is not None and len(found.labels) < len(self.design.classes):
            return None
        third = k ** 3 <= 0.1 * self.rules.numbers_per_value * self.n_values
        prepared = Prepared(self.data, found, model, basis, np.ones(basis.n_coef, bool))
        with np.errstate(all="ignore"):
            local = LocalModel.of(prepared, third)
        if local is None:
            return None
        try:
            self._check_scores(basis, local.coef)
        except Refused:
            return None
        return local

    def _asked_at(self):
        basis, coef = wire.unpack_basis(self.question.arrays), self.question.arrays["coef"]
        columns, sizes = basis.columns, {basis.columns.size, basis.center.size, basis.scale.size}
        known = np.isin(columns, np.arange(len(self.names))).all() and (np.diff(columns) > 0).all()
        numbers = np.concatenate([coef, basis.center, basis.scale])
        if not (known and len(sizes) == 1 and basis.intercept in (False, self.design.intercept)
                and coef.size == self.model.n_equations * basis.n_coef and np.isfinite(numbers).all()
                and (basis.scale > 0).all()):
            raise ValueError("The question's coefficients do not fit its design.")
        self._check_scores(basis, coef)
        return basis, coef

    def _moments(self):
        basis, coef = self._asked_at()
        m = passes.run(block_moments, self.data, self.model, basis, coef)
        arrays = wire.pack_moments(m)
        facts, cov = {"rows": self.n_rows}, self.question.facts.get("cov_type", "nonrobust")
        if cov == "nonrobust" or not math.isfinite(m.deviance):
            return Message("moments", facts, arrays)
        if cov == "cluster":
            return Message("moments", facts | self._clusters(basis, coef, arrays), arrays)
        power = tuple(map(float, self.question.facts["power"]))
        bread = self._bread(power, m)
        adjustment = Adjustment(power, bread, float(self.question.facts["per_row"]), False)
        meat = passes.run(block_meat, self.data, self.model, basis, coef, adjustment)
        if meat.n_perfect:
            raise Refused("most_share: a row alone determines a coefficient (leverage 1)")
        arrays["meat"] = triangle(meat.matrix)
        return Message("moments", facts, arrays)

    def _bread(self, power, moments):
        """The question's inverse information, if it can be one of more rows than the site's: else it could give one row
        all leverage.

        Raises
        ------
        Refused
        """
        if power not in POWERS.values():
            raise ValueError("The question's powers of 1 - h are those of no covariance.")
        if not any(power):
            return None
        bread = self.question.arrays["bread"]
        leverages = np.linalg.eigvals(bread @ moments.expected)
        if bread.shape != moments.expected.shape or not (np.abs(leverages) <= 1.0 + 1e-4).all():
            raise Refused("leverage: the question's inverse information is none of these rows and more")
        return 0.5 * (bread + bread.T)

    def _clusters(self, basis, coef, arrays):
        """Adds the clusters' middle of the sandwich; clusters are few sums of many rows, or many."""
        if self.design.clusters is None:
            raise ValueError("The question wants clustered errors and names no column of clusters.")
        found = passes.run(cluster_scores, self.data, self.model, basis, coef)
        sums = found.total[1]
        rows = passes.run(cluster_rows, self.data).rows["clusters"]
        least, carried = self.rules.least_rows, guard.Carried.of(np.linalg.norm(sums, axis=1)[:, None])
        if min(rows.values()) < least and carried.effective[0] < least:
            raise Refused(f"least_rows: fewer than {least} clusters carry the errors, and some have few rows")
        arrays["meat"] = triangle(sums.T @ sums)
        return {"n_clusters": len(sums)}

    def _effects(self):
        facts = self.question.facts
        basis, coef = self._asked_at()
        raw = basis.raw(coef).reshape(self.model.n_equations, basis.n_coef)
        terms = self.design.array_terms()
        averages = tuple(_average(a, terms) for a in facts["averages"])
        plan = EffectPlan(terms, RawCoefficients(self.model, basis.columns, bool(basis.intercept), raw), averages)
        data = self._data(Rows(self.design, True))
        if not (passes.run(guard.carried_effects, data, plan).share <= self.rules.most_share).all():
            raise Refused(f"most_share: one row makes up more than {self.rules.most_share:g} of an average")
        groups = passes.run(effect_sums, data, plan).groups
        weight, value, gradient = groups[()]
        return Message("effects", {"rows": self.n_rows},
                       {"weight": np.array([weight]), "value": value, "gradient": gradient})

    def _points(self):
        """Sums of parts: of one design, number of parts and set of rows in the site's life, for two cuts of the rows
        would have small sets in common."""
        ledger, n_parts = self.site.ledger, int(self.question.facts["parts"])
        mine = [self.names, n_parts, hashlib.sha256(self.rows).hexdigest()]
        self.roles["points"] = mine
        if any(e.roles.get("points", mine) != mine for e in ledger.answered):
            raise Refused("frozen: this site has cut its rows into parts for another question")
        basis, _ = self._asked_at()
        lengths = [n for n in passes.run(count_rows, self.data).lengths]
        layout = Layout.of(self.names, passes.run(guard.column_spread, self.data))
        starts = np.r_[0, np.cumsum(lengths)[:-1]].astype(int)
        plan = plan_of(basis, layout, n_parts, self.rules.least_rows, self.design.offset is not None, starts,
                       ledger.secret % 2 ** 63)                            # the same signs whenever it is asked
        return Message("points", {"rows": self.n_rows}, {"sums": passes.run(collect_block, self.data, plan).sums})

    def _score(self):
        basis, coef = self._asked_at()
        m = passes.run(block_moments, self.data, self.model, basis, coef)
        facts, arrays = {"rows": self.n_rows}, {"score": m.score, "expected": triangle(m.expected)}
        if not self.rules.is_noisy:
            return Message("score", facts | {"noise": 0.0, "epsilon_spent": None}, arrays)
        ledger, again = self.site.ledger, self.site.ledger.was_asked(self.asked)
        if ledger.n_noisy >= self.rules.noisy_rounds and not again:
            raise Refused(f"epsilon: all {self.rules.noisy_rounds} noisy rounds are spent")
        total = passes.run(clipped_score, self.data, self.model, basis, coef, self.rules.clip).value
        # the same question gets the same noise, or asking again would average it away
        rng = np.random.default_rng([ledger.secret, int(self.asked[:32], 16)])
        arrays["score"] = total + rng.normal(scale=self.rules.noise, size=total.size)
        spent = self.rules.spent(ledger.n_noisy + (not again))
        return Message("score", facts | {"noise": self.rules.noise, "epsilon_spent": spent}, arrays)


def _average(values, terms):
    """A slope, or a prediction as the rows are or at a level of a factor: chosen numbers could single out a row."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    if values.pop("is") == "slope":
        return Slope(**values)
    if values["variable"] is not None and (values["how"] != "set" or values["variable"] not in terms.factors):
        raise Refused("effects: the site averages slopes and levels of factors, not chosen values")
    return MeanPrediction(**values)


def _point(at):
    """What `guard.carried_changes` takes of a point in the ledger."""
    design, (rare, dropped) = Design.from_json(at["design"]), at["rare"]
    model = wire.unpack_model(at["model"], design.classes and len(design.classes))
    return Merged(None, rare, tuple(dropped)), design, model, at["raw"]


def count_rows(block):
    """Kernel: rows of each block, in order."""
    return Lengths((block.n_rows,))


@dataclasses.dataclass(frozen=True)
class Lengths:
    lengths: tuple

    def merge(self, other):
        return Lengths(self.lengths + other.lengths)


def cluster_rows(block):
    """Kernel: rows of each cluster."""
    return Levels({"clusters": pd.Series(block.extra["clusters"]).value_counts().to_dict()})


def clipped_score(block, model, basis, coef, clip):
    """Kernel: sum of the score rows, each cut to length `clip`."""
    rows = guard.row_scores(block, model, basis, coef)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return Total(rows.T @ np.minimum(1.0, clip / np.maximum(length, 1e-300)))
