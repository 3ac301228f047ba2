"""Formulas on partitions: the design equals formulaic's on the data in one piece, the fits equal the references."""

import pickle

import dask.dataframe as dd
import make_data
import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix
from reference_fits import link_of
from scipy import sparse

import daskglm_rep as dg
from daskglm_rep import readers, sources
from daskglm_rep.formula.assembly import learn_spec, parse
from daskglm_rep.formula.learn import Levels


def rows(n=600, seed=0):
    rng = np.random.default_rng(seed)
    f = pd.DataFrame(dict(y=rng.normal(size=n), x=rng.normal(size=n), z=rng.gamma(2, size=n),
                          a=rng.choice(list("pqr"), n), b=rng.choice(["u", "v"], n), k=rng.integers(0, 4, n),
                          t=rng.random(n) < 0.4))
    return f.assign(c=pd.Categorical(rng.choice(["lo", "mid", "hi"], n), ["lo", "mid", "hi"]),
                    firm=rng.integers(0, 20, n), w=rng.integers(1, 4, n).astype(float))


F = rows()
CHUNKED = [dd.from_pandas(F, npartitions=4), dd.from_pandas(F.sort_values("a"), npartitions=5, sort=False)]
FORMULAS = ["y ~ x*a", "y ~ a*b*x", "y ~ 0 + a + b", "y ~ 0 + a:b + x", "y ~ C(k) + c", "y ~ C(a, Treatment('q'))*x",
            "y ~ C(a, contr.sum) + C(c, contr.helmert)", "y ~ poly(x, 3) + scale(z) + center(x):a",
            "y ~ bs(x, df=6) + a", "y ~ cr(z, df=5)", "y ~ cc(x, df=4)", "y ~ I(x**2) + np.log(z) + log(z):x + t",
            "y ~ a:x", "y ~ a:b:c", "y ~ standardize(x) + scale(z, center=False)", "y ~ scale(center(x)) + t:a",
            "y ~ x + a - 1", "y ~ (a+b+c)**2", "y ~ bs(x, df=6, include_intercept=True) - 1", "y ~ 1", "y ~ {x+z}",
            "np.log(z) ~ `x`", "y ~ C(x>0)"]


def build_spec(formula, data):
    """A formula learnt on some data, without a fit."""
    table = readers.open_table(data)
    parsed = parse(formula, sources.columns_of(table), {})
    frame = sources.rows_of(table, list(dict.fromkeys(parsed.rhs_columns + parsed.response_columns)))
    return learn_spec(parsed, sources.chunks(frame), sources.example(frame), [], {})[0]


@pytest.mark.parametrize("formula", FORMULAS)
def test_design_is_formulaics_on_one_piece(formula):
    want = model_matrix(formula, F).rhs
    columns = want.drop(columns="Intercept", errors="ignore")
    for data in (F, *CHUNKED):
        spec = pickle.loads(pickle.dumps(build_spec(formula, data)))
        assert spec.names == list(columns.columns) and spec.intercept == ("Intercept" in want)
        np.testing.assert_allclose(spec.matrix(F), columns.to_numpy(float), rtol=0, atol=1e-10)
        assert sorted(j for cut in spec.term_slices.values() for j in cut) == list(range(len(spec.names)))


def test_sparse_design_is_the_dense_one():
    f = F.assign(g=[f"g{v:03d}" for v in np.random.default_rng(1).integers(0, 90, len(F))])
    formula = "y ~ x + g + g:x + a"
    spec, want = build_spec(formula, dd.from_pandas(f, npartitions=3)), model_matrix(formula, f).rhs
    X = spec.matrix(f)
    assert sparse.issparse(X)
    np.testing.assert_allclose(X.toarray(), want.drop(columns="Intercept").to_numpy(float), atol=1e-12)
    holes = f.copy()
    holes.loc[3, "x"] = np.nan
    X = spec.matrix(holes).toarray()
    assert np.isnan(X[3]).any() and not np.isnan(np.delete(X, 3, axis=0)).any()


def test_variables_levels_and_references():
    spec = build_spec("y ~ C(a, Treatment('q')) * x + t + c + C(k)", F)
    assert spec.variables == {"a": ["p", "q", "r"], "x": None, "t": [False, True], "c": ["lo", "mid", "hi"],
                              "k": [0, 1, 2, 3]}
    assert spec.references["a"] == "q" and spec.references["c"] == "lo"


def test_category_lists_merge_by_rule():
    same = Levels(("lo", "hi"), frozenset({"hi"})).merge(Levels(("lo", "hi"), frozenset({"lo"})))
    assert same.ordered("c") == ("lo", "hi")
    differ = Levels(("b", "c"), frozenset({"b"})).merge(Levels(("c", "a"), frozenset({"c", "a"})))
    assert differ.ordered("c") == ("a", "b", "c")
    parts = [F[F.a == level].assign(a=lambda d: d.a.astype("category")) for level in "rpq"]
    data = dd.from_map(lambda i: parts[i], range(3), meta=parts[0].iloc[:0])
    np.testing.assert_allclose(dg.lm("y ~ x + a", data).params, dg.lm("y ~ x + a", F).params, rtol=1e-9)


def formula_cases():
    return [name for name, c in make_data.cases().items()
            if c["kind"] == "fit" and c["model"].get("formula") and not name.startswith("madlib")]


@pytest.mark.parametrize("name", formula_cases())
def test_reference_fits_through_formulas(name):
    case = make_data.cases()[name]
    m, f = case["model"], make_data.build(case)["frame"]
    if name == "poisson_log_warpbreaks":
        f = f.assign(tension=pd.Categorical(f.tension, ["L", "M", "H"]))
    for data in (f, dd.from_pandas(f, npartitions=3)):
        r = dg.glm(m["formula"], data, m["family"], link_of(m))
        np.testing.assert_allclose(r.params, case["expected"]["coef"], rtol=1e-7)
        np.testing.assert_allclose(r.bse, case["expected"]["se"]["classical"], rtol=1e-6)


def test_parquet_reads_only_named_columns_and_counts_sweeps(tmp_path):
    f = F.assign(unused=np.nan)
    dd.from_pandas(f, npartitions=3).to_parquet(tmp_path)
    want = dg.lm("y ~ x * C(a)", F, weights="w", clusters="firm")
    for path in (tmp_path, str(tmp_path / "*.parquet")):
        got = dg.lm("y ~ x * C(a)", path, weights="w", clusters="firm")
        np.testing.assert_allclose(got.params, want.params, rtol=1e-9)
        np.testing.assert_allclose(got.bse, want.bse, rtol=1e-9)
        assert got.cov_type == "cluster" and got.n_missing == 0

    loads = []

    def load(i):
        loads.append(i)
        return F.iloc[i * 200:(i + 1) * 200]

    r = dg.lm("y ~ x + a", dd.from_map(load, range(3), meta=F.iloc[:0]))
    assert len(loads) == 3 * r.n_passes_


def test_missing_rows_are_dropped_counted_and_refused():
    f = F.copy()
    f.loc[3:9, "x"] = np.nan
    f.loc[20, "a"] = None
    kept = f.dropna()
    for data in (f, dd.from_pandas(f, npartitions=3)):
        r = dg.lm("y ~ x + a", data)
        assert r.n_missing == 8 and r.nobs == len(kept)
        assert "8 rows" in str(r.summary())
        np.testing.assert_allclose(r.params, dg.lm("y ~ x + a", kept).params, rtol=1e-9)
        with pytest.raises(ValueError, match="na='raise'"):
            dg.lm("y ~ x + a", data, na="raise")
    assert np.isnan(r.predict(f)[3:10]).all()


def test_prediction_keeps_index_and_divisions_lazily():
    f = F.assign(n=np.random.default_rng(2).poisson(2.0, len(F)), e=1.5)
    r = dg.glm("n ~ x + a", f, family="poisson", exposure="e")
    lazy = dd.from_pandas(f, npartitions=3)
    got = r.predict(lazy)
    assert isinstance(got, dd.Series) and got.divisions == lazy.divisions
    np.testing.assert_allclose(got.compute(), r.predict(f), rtol=1e-12)
    assert r.predict(f.iloc[5:8]).index.tolist() == [5, 6, 7]
    np.testing.assert_allclose(r.predict(f[["x", "a"]], exposure=3.0), 2 * r.predict(f), rtol=1e-12)
    with pytest.raises(ValueError, match="lacks the column 'e'"):
        r.predict(f[["x", "a"]])
    assert r.margins(f, variables=["x", "a"]).frame.shape[0] == 3


def test_labels_of_a_binomial_response():
    r = dg.logit("b ~ x + a", CHUNKED[0])
    numeric = dg.logit("b ~ x + a", F.assign(b=(F.b == "v").astype(float)))
    np.testing.assert_allclose(r.params, numeric.params, rtol=1e-9)
    np.testing.assert_allclose([r.llf, r.llnull], [numeric.llf, numeric.llnull], rtol=1e-9)
    assert list(r.predict_proba(CHUNKED[0]).columns) == ["u", "v"]


def test_robust_covariances_from_frames():
    r = dg.logit("t ~ x + a", F)
    for cov, options in (("HC1", {}), ("cluster", {"clusters": "firm"})):
        want = dg.logit("t ~ x + a", F, cov_type=cov, **options)
        np.testing.assert_allclose(r.with_covariance(cov, CHUNKED[0], **options).bse, want.bse, rtol=1e-8)


BAD = [("y ~ nope", {}, "'nope', which is no column"), ("y ~ x +", {}, "cannot be read"),
       ("y", {}, "needs one response"), ("y ~ x", {"weights": "nope"}, "no column 'nope'"),
       ("y ~ x", {"na": "guess"}, "na='guess'"), ("y ~ x", {"clusters": ["firm", "k", "a"]}, "clusters must name"),
       ("y ~ lag(x)", {}, "rows before"), ("a ~ x", {}, "no numbers"),
       ("y ~ hashed(a, levels=3)", {}, "encodes itself"), ("y ~ lists", {}, "holds list objects"),
       ("y ~ mixed", {}, "column of objects"), ("y ~ C(mixed)", {}, "no common order"), ("y ~ when", {}, "datetime64"),
       ("y ~ far", {}, "infinite"), ("y ~ empty", {}, "complete"), ("y ~ bs(x, df=2)", {}, "df")]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("formula", "options", "message"), BAD)
def test_bad_formulas_and_columns_in_one_sentence(formula, options, message, lazy):
    if lazy and ("lists" in formula or "mixed" in formula):
        pytest.skip("dask turns columns of objects into text before anyone sees them")
    n = len(F)
    f = F.assign(lists=pd.Series([[1]] * n, dtype=object), mixed=pd.Series([1, "a", 2.5] * (n // 3), dtype=object),
                 when=pd.date_range("2020", periods=n), far=np.where(F.k == 0, np.inf, F.x), empty=np.nan)
    if lazy:
        parts = [f.iloc[:n // 2], f.iloc[n // 2:]]
        f = dd.from_map(lambda i: parts[i], range(2), meta=f.iloc[:0])
    with pytest.raises(ValueError, match=message) as caught:
        dg.lm(formula, f, **options)
    assert "\n" not in str(caught.value)


def test_unseen_levels_name_level_and_column():
    r = dg.lm("y ~ C(a) + x", F)
    with pytest.raises(ValueError, match=r"C\(a\) holds the level 'new' in 1 rows"):
        r.predict(F.head(3).assign(a=["p", "new", "q"]))
    with pytest.raises(ValueError, match="lacks the column 'a'"):
        r.predict(F[["x"]])
    with pytest.raises(ValueError, match="data is a int"):
        dg.lm("y ~ x", 3)


@pytest.mark.parametrize("role, value, words", [
    ("weights", np.inf, "weights column 'bad' has 1 NaN or infinite values in block 0; drop these rows or fill them"),
    ("offset", -np.inf, "offset column 'bad' has 1 NaN or infinite values in block 0"),
    ("exposure", -1.0, "exposure column 'bad' must be > 0: 1 of 600 rows of block 0 are not; drop them"),
    ("weights", "many", "weights column 'bad' must be numeric, but block 0 holds 'many'"),
])
def test_fits_and_effects_tell_bad_columns_in_the_same_words(role, value, words):
    bad = F["w"].astype(object).mask(F.index == 7, value).infer_objects()
    _refused_by_both(F.assign(bad=bad), words, **{role: "bad"})


def test_fits_and_effects_tell_bad_names_in_the_same_words():
    _refused_by_both(F, "data has no column 'lacks', which the call for 'k ~ x' names; its columns are .*'x'",
                     exposure="lacks")
    _refused_by_both(F, "offset must be the name of a column of data, or a Series", offset=2.5)


def _refused_by_both(data, words, **roles):
    results = dg.glm("k ~ x", F, "poisson")
    for call in (lambda: dg.glm("k ~ x", data, "poisson", **roles), lambda: results.margins(data, **roles)):
        with pytest.raises(ValueError, match=words):
            call()
