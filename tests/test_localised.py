"""Sites and a coordinator: the pooled fit from files of sums, by the sites' rules, under attack."""

import dataclasses
import io
import itertools
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
from hospitals import hospitals

from daskglm_rep import GLMRegressor, SeparationWarning, __main__, glm, mnlogit
from daskglm_rep.families import NegativeBinomial
from daskglm_rep.localised import Coordinator, Message, Rules, Site, Study, Workers, messages, wire
from daskglm_rep.localised.guard import Carried
from daskglm_rep.localised.ledger import Ledger
from daskglm_rep.localised.messages import square
from daskglm_rep.models.glm import GLM
from daskglm_rep.models.multinomial import Multinomial

RHS = "age + bmi + smoke + C(sex) + C(ward)"
CASES = {"logit": ("died", "binomial", {}), "poisson": ("visits", "poisson", {}),
         "multinomial": ("place", "multinomial", {}),
         "clustered": ("died", "binomial", {"cov_type": "cluster", "clusters": "doctor"}),
         "many clustered": ("place", "multinomial", {"cov_type": "cluster", "clusters": "doctor"}),
         "robust": ("visits", "poisson", {"cov_type": "HC3"})}


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(scope="module")
def frames():
    return hospitals()


def sites_of(frames, **how):
    return [Site(frame, name=f"h{k}", **how) for k, frame in enumerate(frames)]


def pooled(formula, frames, family, **how):
    rows = pd.concat(frames, ignore_index=True)
    if family == "multinomial":
        return mnlogit(formula, rows, **how)
    return glm(formula, rows, family=family, **how)


def assert_equal_fits(ours, theirs, tol=1e-9):
    np.testing.assert_allclose(ours.params, theirs.params, rtol=tol, atol=tol)
    np.testing.assert_allclose(ours.bse, theirs.bse, rtol=tol)
    assert ours.llf == pytest.approx(theirs.llf, rel=1e-11) and ours.nobs == theirs.nobs


# ---------------------------------------------------------------- the pooled fit


@pytest.mark.parametrize("case", CASES)
def test_answers_sum_to_the_pooled_fit(frames, case):
    response, family, how = CASES[case]
    coordinator = Coordinator(f"{response} ~ {RHS}", family, **how)
    assert_equal_fits(coordinator.fit(sites_of(frames)), pooled(f"{response} ~ {RHS}", frames, family, **how))
    assert coordinator.n_rounds_ <= 4


def test_three_processes_share_nothing_but_files(frames, tmp_path):
    """Each site is a process of its own that sees its rows and the study's folders."""
    for name, frame in zip("ABC", frames):
        frame.to_csv(tmp_path / f"site-{name}.csv", index=False)
    rows = [pd.read_csv(tmp_path / f"site-{name}.csv") for name in "ABC"]
    script = Path(__file__).with_name("hospitals.py")
    processes = [subprocess.Popen([sys.executable, script, name, tmp_path], env=os.environ | {
        "PYTHONPATH": str(script.parents[1])}) for name in "ABC"]
    try:
        studies = {case: Study.begin(tmp_path / case, list("ABC"), formula=f"{CASES[case][0]} ~ {RHS}",
                                     family=CASES[case][1], **CASES[case][2])
                   for case in ("logit", "poisson", "multinomial", "clustered")}
        end = time.monotonic() + 300
        while any(study.advance()[1] for study in studies.values()):
            assert time.monotonic() < end and all(p.poll() is None for p in processes)
            time.sleep(0.5)
    finally:
        (tmp_path / "stop").touch()
        for process in processes:
            process.wait(20)
    for case, study in studies.items():
        coordinator, _ = study.advance()
        response, family, how = CASES[case]
        assert_equal_fits(coordinator.results_, pooled(f"{response} ~ {RHS}", rows, family, **how))
        assert coordinator.n_rounds_ <= 4


@pytest.mark.parametrize("family, link, response", [("gaussian", None, "bmi"), ("gamma", "log", "age"),
                                                    ("binomial", "probit", "died"), ("binomial", "identity", "smoke"),
                                                    ("poisson", "identity", "visits")])
def test_other_families_and_links(frames, family, link, response):
    formula = f"{response} ~ {'bmi' if response == 'age' else 'age'} + C(ward)"
    coordinator = Coordinator(formula, family, link)
    ours = coordinator.fit(sites_of(frames))
    assert_equal_fits(ours, pooled(formula, frames, family, link=link))
    assert ours.scale == pytest.approx(pooled(formula, frames, family, link=link).scale, rel=1e-9)
    assert coordinator.n_rounds_ <= 5


def test_negative_binomial_with_its_alpha(frames):
    ours = Coordinator("visits ~ age + smoke", NegativeBinomial(0.4)).fit(sites_of(frames))
    rows = pd.concat(frames)
    theirs = GLMRegressor(NegativeBinomial(0.4)).fit(rows[["age", "smoke"]], rows["visits"]).results_
    np.testing.assert_allclose(ours.params, theirs.params, rtol=1e-8)
    with pytest.raises(ValueError, match="alpha"):
        Coordinator("visits ~ age", "negative_binomial")


def test_weights_offsets_and_products(frames):
    given = [f.assign(w=1.0 + np.arange(len(f)) % 3, o=0.01 * f["age"]) for f in frames]
    formula = "visits ~ age + smoke + smoke:C(ward) + C(ward)"
    ours = Coordinator(formula, "poisson", weights="w", offset="o").fit(sites_of(given))
    theirs = pooled("visits ~ age + smoke + C(ward) + smoke:C(ward)", given, "poisson", weights="w", offset="o")
    np.testing.assert_allclose(np.sort(ours.params), np.sort(theirs.params), rtol=1e-9)
    np.testing.assert_allclose(np.sort(ours.bse), np.sort(theirs.bse), rtol=1e-8)


def test_effects_and_likelihood_ratios(frames):
    large, small = (Coordinator(formula, "binomial", effects=True) for formula in
                    ("died ~ age + smoke + C(ward) + age:smoke", "died ~ age + smoke"))
    sites = sites_of(frames)
    large.fit(sites), small.fit(sites)                                 # the same sites answer for both
    theirs = pooled("died ~ age * smoke + C(ward)", frames, "binomial")
    want = theirs.margins(pd.concat(frames, ignore_index=True)).frame
    for column in ("effect", "se"):
        np.testing.assert_allclose(large.effects_.frame[column], want[column], rtol=1e-7)
    few = pooled("died ~ age + smoke", frames, "binomial")
    assert large.results_.lr_test(small.results_).statistic == pytest.approx(theirs.lr_test(few).statistic, rel=1e-8)


def test_many_models_from_points(frames):
    """One collection: fewer columns and a penalty, near the pooled fits; one cut of the rows in a site's life."""
    sites, formula = sites_of(frames, rules=Rules(numbers_per_value=1.0)), "died ~ age + bmi + smoke"
    coordinator = Coordinator(formula, "binomial", points=40)
    coordinator.fit(sites)
    assert coordinator.n_rounds_ <= 5 and 60 < coordinator.points_.n_parts <= 120
    small = pooled("died ~ age + smoke", frames, "binomial")
    ours = coordinator.points_.refit(columns=["age", "smoke"]).params.dropna()
    assert np.max(np.abs(ours.to_numpy() - small.params.to_numpy()) / small.bse.to_numpy()) < 0.1
    same = coordinator.points_.refit().params
    np.testing.assert_allclose(same, coordinator.results_.params, rtol=1e-6)
    assert coordinator.points_.refit(alpha=0.05, l1_ratio=1.0).params.abs().iloc[1:].sum() < same.abs().iloc[1:].sum()
    with pytest.raises(ValueError, match="another question"):
        Coordinator(formula, "binomial", points=41).fit(sites)
    with pytest.raises(ValueError, match="one equation"):
        Coordinator("place ~ age", "multinomial", points=10)


def test_sites_that_are_nothing_like_each_other(frames):
    rng, given = np.random.default_rng(0), []
    for k, frame in enumerate(frames):
        eta = (-2, 0, 1.5)[k] + (1.5 - k) * 0.8 * (frame["age"] - 50) / 12 + frame["smoke"]
        given.append(frame.assign(died=(rng.random(len(frame)) < 1 / (1 + np.exp(-eta))) * 1))
    coordinator = Coordinator("died ~ age + smoke + bmi", "binomial")
    assert_equal_fits(coordinator.fit(sites_of(given)), pooled("died ~ age + smoke + bmi", given, "binomial"))
    assert coordinator.n_rounds_ <= 6


def test_levels_that_a_site_has_not_and_rare_ones(frames):
    given = [f.copy() for f in frames]
    given[0] = given[0][given[0]["ward"] != "c"]
    given[1].loc[given[1].index[:4], "ward"] = "tent"                   # rare here: these rows are left out
    given[2].loc[given[2].index[:12], "ward"] = "tent"
    coordinator = Coordinator("visits ~ age + C(ward)", "poisson")
    ours = coordinator.fit(sites_of(given))
    kept = [given[0], given[1].iloc[4:], given[2]]
    assert_equal_fits(ours, pooled("visits ~ age + C(ward)", kept, "poisson"))
    with pytest.raises(ValueError, match="h1.*level of 'ward'"):
        Coordinator("visits ~ age + C(ward)", "poisson").fit(sites_of(given, rules=Rules(rare_levels="refuse")))


def test_separation_and_aliased_columns_are_named(frames):
    given = [f.assign(flag=((f["died"] == 1) & (f["age"] > 60)) * 1.0) for f in frames]
    with pytest.warns(SeparationWarning, match="'flag'"):
        assert not Coordinator("died ~ age + flag", "binomial").fit(sites_of(given)).converged
    given = [f.assign(twice=2 * f["age"]) for f in frames]
    with pytest.warns(UserWarning, match="'twice'"):
        ours = Coordinator("died ~ age + twice", "binomial").fit(sites_of(given))
    assert np.isnan(ours.params["twice"])
    np.testing.assert_allclose(ours.params.iloc[:2], pooled("died ~ age", frames, "binomial").params, rtol=1e-9)


def test_dask_workers_of_a_site_answer_and_no_row_moves(frames, tmp_path):
    """Each site's resource is on one worker; rows are opened there, inside the task: no key of rows ever exists."""
    distributed = pytest.importorskip("distributed")
    how = {}
    for k, frame in enumerate(frames[:2]):
        frame.to_parquet(tmp_path / f"{k}.parquet")
        how[f"hospital-{k}"] = {"data": str(tmp_path / f"{k}.parquet"), "ledger": str(tmp_path / f"ledger-{k}")}
    workers = {k: {"cls": distributed.Worker, "options": {"nthreads": 1, "resources": {tag: 1}}}
               for k, tag in enumerate(how)}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": ":0"}}
    with (distributed.SpecCluster(workers=workers, scheduler=scheduler) as cluster,
          distributed.Client(cluster) as client):
        ran = {}

        def note(key, start, finish, *args, **kwargs):
            if finish == "memory":
                ran[key] = (kwargs["worker"], kwargs.get("nbytes"))

        plugin = distributed.SchedulerPlugin()
        plugin.transition = note
        cluster.scheduler.add_plugin(plugin, name="note")
        coordinator = Coordinator(f"died ~ {RHS}", "binomial")
        ours = coordinator.fit(Workers(client, how, timeout=60))
        tag_of = {address: next(iter(ws.resources)) for address, ws in cluster.scheduler.workers.items()}
        incoming = [log for worker in cluster.workers.values() for log in worker.transfer_incoming_log]
    assert_equal_fits(ours, pooled(f"died ~ {RHS}", frames[:2], "binomial"))
    assert len(ran) == 2 * coordinator.n_rounds_ and all(key.startswith("answer-") for key in ran)
    assert all(tag_of[worker] in key for key, (worker, _) in ran.items())
    assert not incoming                                                  # no worker got anything from another
    assert sum(size for _, size in ran.values()) < 0.1 * sum(f.memory_usage().sum() for f in frames[:2])


def test_command_line(frames, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, frame in zip("AB", frames):
        frame.to_csv(f"{name}.csv", index=False)
    Path("rules.toml").write_text("least_rows = 20\n")

    def run(*words):
        status = __main__.main([str(w) for w in words])
        assert status == 0, capsys.readouterr().err
        return capsys.readouterr().out

    run("coordinator", "start", "study", "died ~ age + C(ward)", "--family", "binomial", "--cov", "HC1", "--effects",
        "--sites", "A,B")
    for number in itertools.count(1):
        said = run("coordinator", "next", "study")
        if "waiting" not in said:
            break
        for name in "AB":
            run("site", "answer", f"study/question-{number:02d}.npz", "--data", f"{name}.csv", "--rules", "rules.toml",
                "--name", name, "--ledger", f"ledger-{name}", "--out", f"study/answer-{number:02d}-{name}.npz")
    theirs = pooled("died ~ age + C(ward)", [pd.read_csv("A.csv"), pd.read_csv("B.csv")], "binomial", cov_type="HC1")
    ours = pd.read_csv("study/coefficients.csv", index_col=0)
    np.testing.assert_allclose(ours["coef"], theirs.params, rtol=1e-9)
    np.testing.assert_allclose(ours["std err"], theirs.bse, rtol=1e-9)
    assert "round trips" in said and len(pd.read_csv("study/effects.csv")) == 3
    assert "moments" in run("site", "show", "study/question-02.npz")
    assert "answered" in run("site", "audit", "--ledger", "ledger-A", "--out", "audit.csv")
    assert len(pd.read_csv("audit.csv")) == number - 1
    assert __main__.main(["coordinator", "start", "study", "died ~ age", "--sites", "A"]) == 1


# ---------------------------------------------------------------- files


def test_messages_are_json_and_plain_arrays():
    message = Message("moments", {"study": "s", "number": 1}, {"score": np.arange(3.0), "columns": np.arange(2)})
    content = message.to_bytes()
    again = Message.from_bytes(content)
    assert again.facts == message.facts and content == again.to_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        assert json.loads(archive["message"].tobytes())["version"] == 1
    for wrong, words in ((b"nothing", "no question"), (b"", "no question"),
                         (_with(message, version=2), "version 2"), (_with(message, kind="dance"), "kind 'dance'")):
        with pytest.raises(ValueError, match=words):
            Message.from_bytes(wrong)
    out = io.BytesIO()
    np.savez(out, message=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="no question"):
        Message.from_bytes(out.getvalue())


def _with(message, **changes):
    head = {"format": "daskglm_rep localised", "version": 1, "kind": message.kind} | changes
    out = io.BytesIO()
    np.savez(out, message=np.frombuffer(json.dumps(head).encode(), np.uint8))
    return out.getvalue()


@pytest.mark.parametrize("model", [GLM.of("poisson"), GLM.of("gamma", "inverse"), GLM.of(NegativeBinomial(0.3), "log"),
                                   Multinomial(4)], ids=str)
def test_models_survive_the_wire(model):
    values = json.loads(json.dumps(wire.pack_model(model)))
    assert wire.unpack_model(values) == model


def test_coordinators_refuse_what_is_not_an_answer(frames):
    coordinator, other = Coordinator("died ~ age", "binomial"), Coordinator("died ~ bmi", "binomial")
    sites = sites_of(frames)
    question = coordinator.question()
    answers = [site.answer(question) for site in sites]
    with pytest.raises(ValueError, match="another question"):
        coordinator.receive([site.answer(other.question()) for site in sites])
    with pytest.raises(ValueError, match="each answers every question once"):
        coordinator.receive([answers[0], answers[0]])
    coordinator.receive(answers)
    with pytest.raises(ValueError, match="between h0, h1, h2"):
        coordinator.receive([site.answer(coordinator.question()) for site in sites[:2]])
    with pytest.raises(ValueError, match="no column 'agee'"):
        Coordinator("died ~ agee", "binomial").fit(sites)


def test_damaged_answers_are_named(frames):
    coordinator, sites = Coordinator("died ~ age + C(ward)", "binomial"), sites_of(frames[:2])
    while (question := coordinator.question()) is not None:
        first, second = (site.answer(question) for site in sites)
        for name, array in second.arrays.items():
            for bad in (array.ravel()[:-1], np.full(array.shape, np.nan)):
                if name.endswith("_slope"):
                    bad = np.full(array.shape, np.nan)
                with pytest.raises(ValueError, match="site 'h1'.*damaged"):
                    coordinator.receive([first, dataclasses.replace(second, arrays=second.arrays | {name: bad})])
        for facts in ({"rows": -5}, {"rows": "x"}, {"levels": {}}, {"n_missing": None}):
            if question.kind == "survey" or "rows" in facts:
                with pytest.raises(ValueError, match="site 'h1'.*damaged"):
                    coordinator.receive([first, dataclasses.replace(second, facts=second.facts | facts)])
        coordinator.receive([first, second])


@pytest.mark.parametrize("make, words", [
    (lambda: Coordinator("died ~ log(age)"), "log"), (lambda: Coordinator("died"), "needs one response"),
    (lambda: Coordinator("died ~ I(age ** 2)"), "evaluate"), (lambda: Coordinator("y ~ x", cov_type="CR2"), "CR2"),
    (lambda: Coordinator("y ~ x", cov_type="cluster"), "together"), (lambda: Rules(least_rows=0), "least_rows"),
    (lambda: Coordinator("y ~ x", "multinomial", cov_type="HC3"), "HC3"),
    (lambda: Coordinator("y ~ x", classes=["a"]), "classes"),
    (lambda: Coordinator("y ~ x", levels={"g": [1]}), "C\\(g\\)"),
    (lambda: Study.begin("nowhere", ["a b"], formula="y ~ x"), "distinct names")])
def test_bad_studies(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_rules_are_read_from_files(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text("least_rows = 25\nmost_share = 0.25\nrare_levels = 'refuse'\n")
    assert Rules.read(path) == Rules(least_rows=25, most_share=0.25, rare_levels="refuse")
    for text, words in (("rows = 3", "no rule 'rows'"), ("least_rows = 'ten'", "no int"), ("least_rows", "no TOML")):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            Rules.read(path)


# ---------------------------------------------------------------- attacks


def ask(kind, formula="died ~ age + bmi", family="binomial", coef=None, basis=None, **columns):
    """A question made by hand, as an attacker makes it."""
    coordinator = Coordinator(formula, family, **columns)
    facts = {"study": "attack", "number": 1, "model": wire.pack_model(coordinator.model),
             "design": coordinator.design.to_json()}
    arrays = {} if coef is None else {"coef": np.asarray(coef, float)} | wire.pack_basis(basis)
    return Message(kind, facts, arrays)


def raw(p):
    return wire.unpack_basis({"columns": np.arange(p), "center": np.zeros(p), "scale": np.ones(p),
                              "intercept": np.array([1])})


def rows_in(vectors, X, tol=1e-6):
    """How many rows (1, x) are multiples of some of the vectors, whose first number stands for 1."""
    found = 0
    for v in vectors:
        with np.errstate(all="ignore"):
            x = np.asarray(v)[1:1 + X.shape[1]] / v[0]
        found += bool((np.abs(X - x) < tol * np.abs(X).max()).all(axis=1).any())
    return found


def refusal(answer):
    assert answer.kind == "refusal" and not answer.arrays
    return answer.facts["reason"]


def test_attack_1_scores_that_differ_by_one_row(frames):
    """Steep slopes make residuals 0 or 1; a threshold that moves past one patient changes the score by that patient."""
    frame = frames[0].iloc[:300]
    ages = np.sort(frame["age"].to_numpy())[100:140]
    X, steep = frame[["age", "bmi"]].to_numpy(), 1e4
    found = {}
    for rules in (Rules(), Rules(least_rows=1, most_share=1.0, most_questions=10 ** 6, numbers_per_value=1e9)):
        site, scores = Site(frame, rules), []
        for threshold in 0.5 * (ages[1:] + ages[:-1]):
            answer = site.answer(ask("moments", coef=[-steep * threshold, steep, 0.0], basis=raw(2)))
            if answer.kind == "moments":
                scores.append(answer.arrays["score"])
        found[rules.least_rows] = rows_in([a - b for a, b in itertools.combinations(scores, 2)], X)
    assert found[10] == 0 and found[1] > 30                     # without the rules the attack works


def test_attack_1_informations_of_one_row(frames):
    """Between two saturated sides only rows at the threshold carry the information: it is their z z'."""
    site, age = Site(frames[0].iloc[:300]), np.sort(frames[0]["age"].to_numpy()[:300])
    for threshold in age[[50, 150, 250]]:
        answer = site.answer(ask("moments", coef=[-300.0 * threshold, 300.0, 0.0], basis=raw(2)))
        assert "carry the information" in refusal(answer) or "carry the score" in refusal(answer)


def test_attack_1_in_a_basis_that_hides_the_row(frames):
    """Far centres and scales weigh other rows up, infinite ones make every check NaN, twin columns move the point."""
    frame = frames[0].iloc[:300]
    ages, X, scores = np.sort(frame["age"].to_numpy())[100:140], frame[["age", "bmi"]].to_numpy(), []
    site, free = Site(frame), Site(frame, Rules(least_rows=1, most_share=1.0, most_questions=10 ** 6,
                                                numbers_per_value=1e9))
    for threshold in 0.5 * (ages[1:] + ages[:-1]):
        for center, scale, columns in (([0.0, 25.0], [1.0, 1e-12], [0, 1]), ([0.0, 0.0], [1.0, 1e-300], [0, 1]),
                                       ([0.0, 0.0], [1.0, 1.0], [0, 0])):
            changes = dict(columns=np.array(columns), center=np.array(center), scale=np.array(scale))
            basis = dataclasses.replace(raw(2), **changes)
            question = ask("moments", coef=[-20.0 * threshold, 20.0, 0.0], basis=basis)
            answer = site.answer(question)
            scores += [answer.arrays["score"] * np.r_[1.0, scale]] if answer.kind == "moments" else []
    assert rows_in([a - b for a, b in itertools.combinations(scores, 2)], X, 1e-3) == 0
    question = ask("moments", coef=[-20.0 * ages[0], 20.0, 0.0], basis=raw(2))
    assert free.answer(question).kind == "moments"


def test_attack_1_a_bread_that_gives_one_row_all_leverage(frames):
    site, frame = Site(frames[0]), frames[0]
    z = np.r_[1.0, frame[["age", "bmi"]].to_numpy()[7]]
    question = ask("moments", coef=[-1.0, 0.0, 0.0], basis=raw(2))
    facts = {"cov_type": "HC", "power": [2.0, 0.0, 0.0], "per_row": 1.0}
    bread = np.outer(z, z) / (z @ z) ** 2 / 0.2                              # h = 1 for this row at these coefficients
    evil = Message("moments", question.facts | facts, question.arrays | {"bread": bread})
    assert "leverage" in refusal(site.answer(evil))
    evil = Message("moments", question.facts | facts | {"power": [9.0, 0.0, 0.0]}, question.arrays | {"bread": bread})
    assert "error" in refusal(site.answer(evil))


def test_attack_2_weights_that_leave_one_row(frames):
    frame = frames[0].iloc[:40].assign(w=np.r_[np.full(39, 1e-9), 1.0])
    for kind in ("survey", "moments"):
        answer = Site(frame).answer(ask(kind, weights="w", coef=[0.0, 0.0, 0.0], basis=raw(2)))
        assert "weights count as 1 rows" in refusal(answer)
    site = Site(frames[0].assign(w=np.r_[0.0, np.ones(len(frames[0]) - 1)]))
    assert site.answer(ask("survey")).kind == "survey"
    assert "frozen" in refusal(site.answer(ask("survey", weights="w")))          # all rows less all but one


def test_attack_3_few_rows_and_columns_of_few(frames):
    assert "least_rows" in refusal(Site(frames[0].iloc[:9]).answer(ask("survey")))
    assert "rows_per_coefficient" in refusal(Site(frames[0].iloc[:11]).answer(
        ask("survey", "died ~ age + bmi + smoke + visits")))
    for few in (np.r_[np.ones(3), np.zeros(1497)], np.r_[np.zeros(1), np.ones(1499)]):
        answer = Site(frames[0].assign(few=few)).answer(ask("survey", "died ~ age + few"))
        assert "'few'" in refusal(answer)
    cells = frames[0].assign(cell=np.where(np.arange(1500) < 30, "x", "y"),
                             late=np.where(np.arange(1500) % 10, "n", "z"))
    answer = Site(cells).answer(ask("survey", "died ~ C(cell) + C(late) + C(cell):C(late)",
                                    levels={"cell": ["y", "x"], "late": ["n", "z"]}))
    assert "C(cell)[x]:C(late)[z]" in refusal(answer)                        # three rows
    rich = frames[0].assign(wage=np.r_[1e9, np.arange(1499.0)])
    assert "most_share" in refusal(Site(rich).answer(ask("survey", "died ~ wage")))


def test_attack_3_one_case_among_controls(frames):
    """At coefficients zero the score is sum (y - 1/2) z: of one case it is that patient."""
    one = frames[0].assign(died=(np.arange(1500) == 77) * 1)
    for question in (ask("survey"), ask("moments", coef=[0.0, 0.0, 0.0], basis=raw(2))):
        assert "value of the response" in refusal(Site(one).answer(question))


def test_attack_4_the_survey_holds_no_value_of_a_row(frames):
    frame = frames[0]
    site = Site(frame)
    answer = site.answer(ask("survey", "died ~ age + bmi + visits"))
    held = set(frame["age"]) | set(frame["bmi"])
    sent = np.concatenate([a.ravel() for a in answer.arrays.values()])
    assert sent.size < 100 and not held & set(sent)
    center, scale = frame["age"].mean(), frame["age"].std(ddof=0)
    assert not np.isin(np.round((frame["age"] - center) / scale, 9), np.round(sent, 9)).any()
    low = answer.arrays["columns_low"][0]
    assert frame["age"].min() < low < np.sort(frame["age"])[9]               # a mean of ten


def test_attack_5_no_key_or_hash_leaves(frames, tmp_path):
    site = Site(frames[0], ledger=tmp_path)
    coordinator = Coordinator("died ~ age + bmi", "binomial")
    coordinator.fit([site])
    hashes = set(np.concatenate(list(site.ledger.sets.values())).tolist())
    for answer in itertools.chain(*coordinator.answers):
        numbers = np.concatenate([a.ravel() for a in answer.arrays.values()])
        assert not hashes & set(numbers.tolist())
        assert not [v for v in answer.facts.values() if isinstance(v, int) and v in hashes]


def test_attack_6_sets_that_differ_in_few_rows(frames, tmp_path):
    """Missing values make sets: of complete rows with and without a column, of two columns and of both."""
    frame = frames[0].assign(lab=frames[0]["bmi"].where(np.arange(1500) != 7), x=1.0 * (np.arange(1500) % 2),
                             z=1.0 * (np.arange(1500) % 3 == 0))
    site = Site(frame, ledger=tmp_path)
    assert site.answer(ask("survey", "died ~ age")).kind == "survey"
    again = Site(frame, ledger=tmp_path)                                     # the ledger outlives the process
    assert "difference" in refusal(again.answer(ask("survey", "died ~ age + lab")))
    assert "difference" in refusal(Site(frame.iloc[1:], ledger=tmp_path).answer(ask("survey", "died ~ age")))
    gaps = frames[0].assign(a=np.where(np.arange(1500) < 40, np.nan, 1.0 * (np.arange(1500) % 2)),
                            b=np.where((np.arange(1500) > 38) & (np.arange(1500) < 80), np.nan, np.arange(1500) % 3))
    site = Site(gaps)                                         # 1 row lacks both: all - (a) - (b) + (a, b) is that row
    kinds = [site.answer(ask("survey", f"died ~ {rhs}")).kind for rhs in ("age", "age + a", "age + b", "age + a + b")]
    assert kinds == ["survey", "survey", "refusal", "survey"]
    part = ask("survey", "died ~ age + C(ward)", levels={"ward": ["a", "b"]})
    assert "leaves out levels" in refusal(site.answer(part))


def test_attack_7_clusters_of_single_rows(frames):
    flagged = frames[0].assign(flag=["one"] + ["rest"] * 1499)
    coordinator = Coordinator("died ~ age + bmi", "binomial", cov_type="cluster", clusters="flag")
    with pytest.raises(ValueError, match="clusters carry"):
        coordinator.fit([Site(flagged)])


def test_questions_run_no_code_and_choose_no_values(frames, tmp_path):
    site, marker = Site(frames[0]), tmp_path / "ran"
    question = ask("survey")
    for name in (f"__import__('pathlib').Path({str(marker)!r}).touch()", "age; import os"):
        design = question.facts["design"] | {"terms": [[name]]}
        answer = site.answer(Message("survey", question.facts | {"design": design}))
        assert "no column" in refusal(answer) and not marker.exists()
    effects = ask("effects", coef=[0.0, 0.0, 0.0], basis=raw(2))
    average = {"is": "prediction", "variable": "age", "how": "set", "value": 51.3, "log": False}
    facts = effects.facts | {"products": {}, "factors": {}, "averages": [average]}
    assert "chosen values" in refusal(site.answer(Message("effects", facts, effects.arrays)))


def test_attack_8_names_orders_and_idle_columns_hide_no_difference(frames):
    """The step of attack 1 for one sex, while the other carries the information; the second time under other words."""
    frame = frames[0].iloc[:300].assign(m=lambda f: (f["sex"] == "m") * 1.0)
    ages, steep = np.sort(frame.loc[frame["m"] == 0, "age"].to_numpy())[70:73], 1e5
    first, second = 0.5 * (ages[:2] + ages[1:])
    one = dict(formula="died ~ age + m + age:m", coef=[-steep * first, steep, steep * first, -steep], basis=raw(3))
    c = steep * second
    for formula, coef in (("died ~ m + age + age:m", [-c, c, steep, -steep]),
                          ("died ~ age + m + visits + age:m", [-c, steep, c, 0.0, -steep])):
        for rules in (Rules(), Rules(least_rows=1, most_share=1.0)):
            site = Site(frame, rules)
            assert site.answer(ask("moments", **one)).kind == "moments"
            answer = site.answer(ask("moments", formula, coef=coef, basis=raw(len(coef) - 1)))
            if rules.least_rows == 1:
                assert answer.kind == "moments"                              # without the rule it is answered
            else:
                assert "score differs" in refusal(answer)


def test_attack_9_rare_levels_as_the_reference(frames):
    """All rows less those of each level would be the rows of the level that has no column."""
    frame = frames[0].assign(ward=np.where(np.arange(1500) == 7, "tent", frames[0]["ward"]))
    question = ask("moments", "visits ~ age + C(ward)", "poisson", [0.0] * 5, raw(4),
                   levels={"ward": ["(other)", "a", "b", "c"]})
    answer = Site(frame).answer(question)
    score = answer.arrays["score"]
    assert answer.facts["rows"] == 1499 and abs(score[0] - score[2:].sum()) < 1e-9


@pytest.mark.parametrize("formula", ["visits ~ age + C(ward) + C(sex)",
                                     "visits ~ age + C(ward) + C(sex) + C(ward):C(sex)"])
@pytest.mark.parametrize("ward", list("abc"))
def test_attack_10_pairs_of_levels_that_one_row_has(frames, formula, ward):
    """An information sums over pairs of levels: at a slope of age alone it would hold exp(b age) of the one man."""
    few = frames[0]["ward"] == ward
    frame = frames[0].assign(sex=np.where(few, "f", frames[0]["sex"]))
    frame.loc[frame.index[few][0], "sex"] = "m"
    question = ask("survey", formula, "poisson", levels={"ward": list("abc"), "sex": ["f", "m"]})
    assert "least_rows" in refusal(Site(frame).answer(question))


def test_attack_10_pairs_of_levels_whose_weights_leave_one_row(frames):
    men = np.flatnonzero((frames[0]["ward"] == "c") & (frames[0]["sex"] == "m"))
    assert men.size > 50
    frame = frames[0].assign(w=np.where(np.isin(np.arange(1500), men[1:]), 1e-9, 1.0))
    how = dict(levels={"ward": list("abc"), "sex": ["f", "m"]})
    assert Site(frame).answer(ask("survey", "visits ~ C(ward) + C(sex)", "poisson", **how)).kind == "survey"
    answer = Site(frame).answer(ask("survey", "visits ~ C(ward) + C(sex)", "poisson", weights="w", **how))
    assert "as their weights count" in refusal(answer)


def test_attack_11_a_combination_of_columns_that_one_row_has(frames):
    frame = frames[0].assign(u=frames[0]["age"] + 5.0 * (np.arange(1500) == 7))
    assert "combination" in refusal(Site(frame).answer(ask("survey", "died ~ age + u")))


def test_attack_12_parts_of_other_rows(frames):
    """Parts of all rows less parts of those without a missing response would be few rows."""
    frame = frames[0].assign(pain=np.where(np.arange(1500) % 100 == 7, np.nan, frames[0]["visits"]))
    site = Site(frame, Rules(numbers_per_value=50.0))
    questions = [ask("points", f"{y} ~ age", "poisson", [0.0, 0.0], raw(1)) for y in ("visits", "pain")]
    first, second = (site.answer(dataclasses.replace(q, facts=q.facts | {"parts": 40})) for q in questions)
    assert first.kind == "points" and "frozen" in refusal(second)


def test_attack_13_refused_questions_count(frames):
    site = Site(frames[0].iloc[:9], Rules(most_questions=3))
    reasons = [refusal(site.answer(ask("survey", f"died ~ {x}"))) for x in ("age", "bmi", "smoke", "visits", "age")]
    assert "most_questions" in reasons[3] and all("least_rows" in reasons[i] for i in (0, 1, 2, 4))


def test_rows_that_are_alike_are_honest(frames):
    """Tables of whole numbers hold rows twice; that parts no one from anybody."""
    rows = [f[["died", "smoke", "visits"]] for f in frames]
    assert rows[0].duplicated().any()
    assert_equal_fits(Coordinator("died ~ smoke + visits", "binomial").fit(sites_of(rows)),
                      pooled("died ~ smoke + visits", rows, "binomial"))


@pytest.mark.parametrize("change", [
    {"number": "x"}, {"number": 1e300}, {"number": None}, {"study": "s" * 10 ** 5}, {"design": []}, {"design": None},
    {"model": []}, {"model": {"family": "poisson", "link": "log", "family_parameters": 3, "link_parameters": []}},
    {"cov_type": "cluster"}, {"cov_type": {}}, {"averages": [1]}, {"parts": "many"}])
@pytest.mark.parametrize("kind", ["survey", "moments", "effects", "points"])
def test_questions_that_make_no_sense_are_answered_or_refused(frames, kind, change):
    site, question = Site(frames[0].iloc[:100]), ask(kind, coef=[0.0, 0.0, 0.0], basis=raw(2))
    site.answer(dataclasses.replace(question, facts=question.facts | change))
    levels = question.facts["design"] | {"levels": [1]}
    refusal(site.answer(dataclasses.replace(question, facts=question.facts | {"design": levels})))
    for bad in ({"intercept": np.zeros(0)}, {"columns": np.array([0.0, 1.0])}, {"scale": np.ones((2, 2))}):
        if kind != "survey":
            refusal(site.answer(dataclasses.replace(question, arrays=question.arrays | bad)))


def test_files_that_unpack_to_too_much(monkeypatch):
    monkeypatch.setattr(messages, "MOST_BYTES", 2 ** 24)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        for _ in range(17):
            file.write(bytes(2 ** 20))
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:                              # a header that promises 8 EB
        archive.writestr("message.npy", b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + (
            b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000000,), }").ljust(117) + b"\n")
    for content in (out.getvalue(), huge.getvalue()):
        with pytest.raises(ValueError, match="no question"):
            Message.from_bytes(content)


def test_two_sites_on_one_ledger_remember_each_other(frames, tmp_path):
    """Both are open before either answers, as two processes at one folder are."""
    one, other = Site(frames[0], ledger=tmp_path), Site(frames[0].iloc[1:], ledger=tmp_path)
    assert one.answer(ask("survey")).kind == "survey"
    assert "difference" in refusal(other.answer(ask("survey", "died ~ bmi")))
    assert len(Ledger(tmp_path).entries) == 2


def test_a_ledger_whose_process_was_killed(frames, tmp_path):
    Site(frames[0], ledger=tmp_path).answer(ask("survey"))
    with open(tmp_path / "ledger.jsonl", "a") as file:
        file.write('{"study": "att')
    (tmp_path / "sets" / "torn.part").write_bytes(b"half")
    site = Site(frames[0].iloc[1:], ledger=tmp_path)
    assert "difference" in refusal(site.answer(ask("survey", "died ~ bmi")))
    assert [e.was_answered for e in Ledger(tmp_path).entries] == [True, False]


def test_attack_14_effects_at_a_level_that_the_oldest_has_not(frames):
    """The mean prediction with all set to men is that of the oldest woman, and its gradient tells her age."""
    frame = frames[0].assign(age=np.where(np.arange(1500) == np.flatnonzero(frames[0]["sex"] == "f")[0], 150.0,
                                          frames[0]["age"]))
    question = ask("effects", "visits ~ age + C(sex) + age:C(sex)", "poisson", [0.0, 0.0, -15.0, 0.15], raw(3),
                   levels={"sex": ["f", "m"]})
    average = {"is": "prediction", "variable": "sex", "value": "m", "how": "set"}
    question = dataclasses.replace(question, facts=question.facts | {"averages": [average]})
    assert "most_share: one row makes up more than 0.5 of an average" in refusal(Site(frame).answer(question))
    free = Site(frame, Rules(most_share=1.0, least_rows=1)).answer(question).arrays["gradient"].ravel()
    assert free[1] / free[0] == pytest.approx(150.0, abs=1.0)                  # without the rule the attack works


def test_attack_15_an_information_of_one_row_beside_many(frames):
    """Men carry the information; women are saturated but for the one at the threshold, whom men's sums lay bare."""
    frame = frames[0].iloc[:300].assign(m=lambda f: (f["sex"] == "m") * 1.0)
    age = np.sort(frame.loc[frame["m"] == 0, "age"].to_numpy())[70]
    c = 1e5 * (age + 1e-6)
    question = ask("moments", "died ~ age + m + age:m", coef=[-c, 1e5, c, -1e5], basis=raw(3))
    assert "information's columns" in refusal(Site(frame).answer(question))
    H = square(Site(frame, Rules(least_rows=1, most_share=1.0)).answer(question).arrays["expected"])
    assert (H[1, 0] - H[2, 1]) / (H[0, 0] - H[2, 0]) == pytest.approx(age)      # without the rule the attack works


def test_errors_hold_no_data(frames):
    bad = frames[0].assign(died=np.r_[7.123, frames[0]["died"].to_numpy()[1:]])
    reason = refusal(Site(bad).answer(ask("survey")))
    assert "7.1" not in reason and "error" in reason


def test_budgets_end(frames):
    site = Site(frames[0], Rules(most_questions=2))
    for j in range(3):
        answer = site.answer(ask("moments", coef=[-1.0, 0.01 * j, 0.0], basis=raw(2)))
    assert "most_questions" in refusal(answer)
    repeated = site.answer(ask("moments", coef=[-1.0, 0.0, 0.0], basis=raw(2)))
    assert repeated.kind == "moments"                                        # asked before: nothing new
    site = Site(frames[0].iloc[:60])
    kinds = [site.answer(ask("moments", coef=[-1.0, 0.01 * j, 0.0], basis=raw(2))).kind for j in range(12)]
    assert kinds[0] == "moments" and kinds[-1] == "refusal"


def test_atoms_of_row_sets():
    ledger = Ledger()
    ledger.sets = {"a": np.arange(100), "b": np.arange(50)}
    assert ledger.smallest_atom(np.arange(100)) == 50
    assert ledger.smallest_atom(np.arange(25)) == 25
    assert ledger.smallest_atom(np.arange(1, 100)) == 1
    assert ledger.smallest_atom(np.repeat(np.arange(100), 2)) == 100          # a multiset: every row twice


def test_effective_rows_by_hand():
    c = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, -3.0]])
    carried = Carried.of(c[:2]).merge(Carried.of(c[2:]))
    np.testing.assert_allclose(carried.effective, [3.0, 16 / 10])
    np.testing.assert_allclose(carried.share, [1 / 3, 3 / 4])


# ---------------------------------------------------------------- noise


def test_noise_is_what_the_rules_say_and_the_same_again(frames):
    rules = Rules(epsilon=2.0, noisy_rounds=4)
    assert rules.spent(4) == pytest.approx(2.0) and rules.spent(2) < 2.0
    assert 4 * rules.clip ** 2 / (2 * rules.noise ** 2) == pytest.approx(rules.rho)       # zCDP adds up
    site = Site(frames[0], rules)
    question = ask("score", coef=[-1.0, 0.0, 0.0], basis=raw(2))
    assert (site.answer(question).arrays["score"] == site.answer(question).arrays["score"]).all()
    assert "epsilon" in refusal(site.answer(dataclasses.replace(question, kind="moments")))
    for j in range(1, 5):
        last = site.answer(ask("score", coef=[-1.0, 0.001 * j, 0.0], basis=raw(2)))
    assert "noisy rounds are spent" in refusal(last)
    assert "local_coef" not in site.answer(ask("survey")).arrays


@pytest.mark.slow
def test_noisy_fits_are_as_far_as_they_say():
    given, away = hospitals(3, (100_000, 100_000, 100_000)), []
    full = pooled("died ~ age + smoke", given, "binomial")
    for _ in range(12):
        coordinator = Coordinator("died ~ age + smoke", "binomial")
        ours = coordinator.fit(sites_of(given, rules=Rules(epsilon=1.0)))
        extra = np.sqrt(ours.bse ** 2 - full.bse ** 2)
        away.append((ours.params - full.params) / extra)
        assert all(spent == pytest.approx(1.0) for spent in coordinator.epsilon_.values())
    assert 0.5 < np.sqrt(np.mean(np.square(away))) < 1.6
