"""The commands a new user types: the demo, `fit`, and what the README promises about both."""

import json
import pathlib
import re

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from daskglm_rep.__main__ import main
from daskglm_rep.plotting import plot_coefficients

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three Parquet files with counts, a factor, clusters and a class; one row has a missing value."""
    rng = np.random.default_rng(4)
    n = 900
    frame = pd.DataFrame({"x": rng.normal(size=n), "g": rng.choice(list("abc"), n), "firm": rng.integers(0, 50, n)})
    frame["y"] = rng.poisson(np.exp(0.5 * frame["x"] + 0.3 * (frame["g"] == "b"))).astype(float)
    frame["event"] = (frame["y"] > 1).astype(float)
    frame["kind"] = rng.choice(["bus", "car", "walk"], n)
    frame.loc[500, "x"] = np.nan
    path = tmp_path_factory.mktemp("data")
    for number, rows in enumerate(np.array_split(np.arange(n), 3)):
        frame.iloc[rows].to_parquet(path / f"part-{number}.parquet", index=False)
    return path


def test_demo_fits_real_data_and_draws_it(tmp_path, capsys):
    import statsmodels.api as sm
    assert main(["demo", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "20,190" in text and "6,366" in text and "docvis" in text and "affair" in text
    assert len(re.findall(r"\d sweeps over the files; at most \S+ standard errors from the optimum", text)) == 2
    for column in ("coef", "std err", "pvalue", "ci_lower", "ci_upper"):
        assert column in text
    assert (tmp_path / "out" / "coefficients.png").stat().st_size > 20_000
    data = dd.read_parquet(tmp_path / "out" / "rand_hie").compute()
    columns = ["lncoins", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp"]
    truth = sm.GLM(data["docvis"], sm.add_constant(data[columns]), family=sm.families.Poisson()).fit(tol=1e-12)
    for name, value, se in zip(columns, truth.params[1:], truth.bse[1:]):
        line = next(line for line in text.split("\n") if line.startswith(name + " "))
        shown = [float(v) for v in line.split()[1:3]]
        assert shown == pytest.approx([value, se], abs=6e-5)


def run_fit(folder, tmp_path, *options, formula="y ~ x + C(g)"):
    out = tmp_path / "fit.json"
    status = main(["fit", formula, *map(str, sorted(folder.glob("*.parquet"))), "--out", str(out), *options])
    return status, json.loads(out.read_text()) if out.exists() else None


def test_fit_writes_what_it_prints(folder, tmp_path, capsys):
    import statsmodels.formula.api as smf
    import statsmodels.api as sm
    status, found = run_fit(folder, tmp_path, "--family", "poisson")
    text = capsys.readouterr().out
    assert status == 0 and found["converged"] and found["n_missing"] == 1 and found["n_passes"] <= 4
    frame = dd.read_parquet(folder).compute()
    truth = smf.glm("y ~ x + C(g)", frame, family=sm.families.Poisson()).fit(tol=1e-12)
    rows = {row["feature"]: row for row in found["coefficients"]}
    assert {name: row["coef"] for name, row in rows.items()} == pytest.approx(dict(truth.params), rel=1e-7)
    assert {name: row["std err"] for name, row in rows.items()} == pytest.approx(dict(truth.bse), rel=1e-6)
    assert found["fit"]["llf"] == pytest.approx(truth.llf) and found["formula"] == "y ~ x + C(g)"
    assert np.shape(found["covariance"]) == (4, 4) and "C(g)[T.b]" in text


def test_fit_with_clusters_and_margins(folder, tmp_path, capsys):
    status, found = run_fit(folder, tmp_path, "--family", "binomial", "--cov", "cluster:firm", "--margins",
                            formula="event ~ x + C(g)")
    text = capsys.readouterr().out
    assert status == 0 and found["cov_type"] == "cluster" and "Average marginal effects" in text
    assert {row["variable"] for row in found["margins"]} == {"x", "g"}
    assert all(np.isfinite(row["se"]) for row in found["margins"])
    status, found = run_fit(folder, tmp_path, "--family", "binomial", "--margins", "x", formula="event ~ x + C(g)")
    assert {row["variable"] for row in found["margins"]} == {"x"}


def test_fit_of_classes(folder, tmp_path):
    status, found = run_fit(folder, tmp_path, "--family", "multinomial", "--baseline", "car", formula="kind ~ x")
    assert status == 0 and {row["class"] for row in found["coefficients"]} == {"bus", "walk"}


@pytest.mark.parametrize("options, words", [
    (["y ~ x", "nowhere/*.parquet"], "no Parquet or CSV file at nowhere"),
    (["y ~ x", "FOLDER", "--cov", "cluster"], "cluster:COLUMN"),
    (["y ~ x", "FOLDER", "--cov", "HC9"], "HC0"),
    (["y ~ missing_column", "FOLDER"], "missing_column"),
    (["y ~ x", "FOLDER", "--family", "poisson", "--link", "logit"], "logit"),
    (["y ~ x", "FOLDER", "--family", "poisson", "--baseline", "a"], "multinomial"),
    (["kind ~ x", "FOLDER", "--family", "multinomial", "--link", "log"], "multinomial"),
    (["kind ~ x", "FOLDER", "--family", "multinomial", "--baseline", "boat"], "boat"),
    (["y ~ x", "FOLDER", "--na", "raise"], "1 of 900 rows have missing values"),
])
def test_mistakes_are_one_line_on_stderr(folder, capsys, options, words):
    assert main(["fit", *[str(folder) if o == "FOLDER" else o for o in options]]) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ") and words in told and told.count("error:") == 1


def test_unknown_commands_and_options_leave_with_usage(capsys):
    for arguments in ([], ["fit"], ["fit", "y ~ x", "data", "--family", "normal"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "usage:" in capsys.readouterr().err


def test_coefficient_plot():
    from matplotlib.figure import Figure

    from daskglm_rep import LogisticRegression, PoissonRegressor
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(300, 3)) * [1, 10, 1], columns=["a", "b", "c"])
    results = PoissonRegressor().fit(X, rng.poisson(np.exp(0.5 * X["a"]))).results_
    ax = plot_coefficients(results, ax=Figure().subplots())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    dots = np.asarray(ax.collections[-1].get_offsets())
    assert dots[:, 0] == pytest.approx(results.params.to_numpy()[1:])
    scaled = np.asarray(plot_coefficients(results, per="sd", ax=Figure().subplots()).collections[-1].get_offsets())
    assert scaled[:, 0] == pytest.approx(results.params.to_numpy()[1:] * X.std(ddof=0).to_numpy())
    ax = plot_coefficients(results, intercept=True, ax=Figure().subplots())
    assert [t.get_text() for t in ax.get_yticklabels()][0] == "Intercept"
    classes = LogisticRegression().fit(X, np.arange(300) % 3).results_
    ax = plot_coefficients(classes, ax=Figure().subplots())
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["1", "2"]
    with pytest.raises(ValueError, match="per='iqr'"):
        plot_coefficients(results, per="iqr")


# ---------------------------------------------------------------- the README


def commands():
    block = re.search(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    return [line for line in block.split("\n") if line.startswith("python3 -m venv")]


def test_ci_runs_the_second_command_of_the_readme():
    ours = (ROOT / ".ci" / "run").read_text().strip().split("\n")[-1]
    assert ours.replace(".venv-ci", ".venv") == commands()[1]
    assert commands()[0].endswith(".venv/bin/python -m daskglm_rep demo")


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "docvis" in capsys.readouterr().out


def test_the_benchmark_runs_small(tmp_path):
    import fits
    rows = fits.main(["--small", "--repeat", "1", "--out", str(tmp_path / "fits.md")])
    ours = [r for r in rows if r["tool"].startswith("daskglm_rep")]
    assert len(ours) == 4 and all(float(r["error (SE)"]) <= 1e-6 and float(r["sweeps"]) <= 3 for r in ours)
    assert "Grams" in (tmp_path / "fits.md").read_text()
