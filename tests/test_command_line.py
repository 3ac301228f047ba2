"""The shell's habits: versions, help, exit codes, mistakes told before the work, CSV, fits side by side."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import daskglm_rep as dg
from daskglm_rep.__main__ import main
from daskglm_rep.inference.covariance import COV_TYPES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    r = np.random.default_rng(6)
    n = 500
    frame = pd.DataFrame({"x": r.normal(size=n), "z": r.normal(size=n), "g": r.choice(list("abc"), n),
                          "firm": r.integers(0, 25, n), "w": r.integers(1, 4, n)})
    frame["y"] = r.poisson(np.exp(0.4 * frame["x"]))
    path = tmp_path_factory.mktemp("shell")
    frame.to_parquet(path / "rows.parquet")
    frame.to_csv(path / "rows.csv", index=False)
    return path


@pytest.fixture
def no_fits(monkeypatch):
    """A fit that begins is a failure: what can be refused is refused before."""
    from daskglm_rep import formula

    def begun(*arguments, **options):
        raise AssertionError("the fit began")
    monkeypatch.setattr(formula, "glm", begun)
    monkeypatch.setattr(formula, "mnlogit", begun)


def test_version(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0 and capsys.readouterr().out == f"daskglm_rep {dg.__version__}\n"


def test_help_is_complete(capsys):
    for command in ([], ["fit"], ["compare"], ["demo"]):
        with pytest.raises(SystemExit) as left:
            main([*command, "--help"])
        assert left.value.code == 0
        told = capsys.readouterr().out
        if command == ["fit"]:
            assert not [name for name in COV_TYPES if name not in told]
        if command in ([], ["fit"]):
            assert re.search(r"Exit status: 0 done; 1 refused.*3\s+fitted, but not converged", told, re.S)


@pytest.mark.parametrize("options, words", [
    (["--level", "95"], "level must lie in [0.5, 1)"),
    (["--level", "0.05"], "asks for 5 % intervals"),
    (["--margins", "nosuch"], "--margins names 'nosuch', which is no variable on the right of 'y ~ x + C(g)': choose"),
    (["--margins", "x,firm"], "--margins names 'firm'"),
    (["--out", "FOLDER/no/fit.json"], "cannot be written: name a file in a folder that exists"),
    (["--out", "FOLDER"], "cannot be written"),
    (["--cov", "CR2"], "CR2:COLUMN"),
    (["--cov", "HC1:firm"], "--cov HC1:firm is not known"),
    (["--family", "multinomial", "--l1-ratio", "0.5"], "do not belong to a multinomial model"),
])
def test_mistakes_are_told_before_the_fit(folder, no_fits, capsys, options, words):
    options = [o.replace("FOLDER", str(folder)) for o in options]
    assert main(["fit", "y ~ x + C(g)", str(folder / "rows.parquet"), *options]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and words in told.err and told.err.count("\n") == 1 and not told.out


def test_csv_and_parquet_print_the_same(folder, capsys):
    shown = []
    for name in ("rows.parquet", "rows.csv"):
        assert main(["fit", "y ~ x + C(g)", str(folder / name), "--family", "poisson", "--cov", "CR2:firm",
                     "--margins", "x"]) == 0
        shown.append(re.sub(r"Sweeps +\d", "", capsys.readouterr().out))
    assert shown[0] == shown[1] and "CR2" in shown[0]


def test_a_folder_of_two_data_sets_is_refused(folder, tmp_path, capsys):
    for name, columns in (("a", ["x", "y"]), ("b", ["x", "w"])):
        pd.read_parquet(folder / "rows.parquet")[columns].to_parquet(tmp_path / f"{name}.parquet")
    assert main(["fit", "y ~ x", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "mixes 2 data sets" in told and "a.parquet" in told and "b.parquet" in told


def test_options_reach_the_fit(folder, tmp_path):
    frame = pd.read_parquet(folder / "rows.parquet")
    out = tmp_path / "fit.json"
    assert main(["fit", "y ~ x + z", str(folder / "rows.csv"), "--family", "poisson", "--weights", "w",
                 "--weights-kind", "frequency", "--alpha", "0.1", "--l1-ratio", "0.5", "--out", str(out),
                 "--tol", "1e-9"]) == 0
    truth = dg.glm("y ~ x + z", frame, "poisson", weights="w", weights_kind="frequency", alpha=0.1, l1_ratio=0.5)
    found = {row["feature"]: row["coef"] for row in json.loads(out.read_text())["coefficients"]}
    assert found == pytest.approx(truth.params.to_dict(), rel=1e-6)
    twice = tmp_path / "two.json"
    assert main(["fit", "y ~ x", str(folder / "rows.csv"), "--cov", "cluster:firm,g", "--out", str(twice)]) == 0
    errors = [row["std err"] for row in json.loads(twice.read_text())["coefficients"]]
    assert errors == pytest.approx(dg.lm("y ~ x", frame, clusters=["firm", "g"]).bse.to_list(), rel=1e-9)


@pytest.fixture(scope="module")
def two_records(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("records")
    for name, formula in (("small", "y ~ x"), ("large", "y ~ x + C(g)")):
        assert main(["fit", formula, str(folder / "rows.parquet"), "--family", "poisson", "--out",
                     str(path / f"{name}.json")]) == 0
    return path


def test_compare_puts_fits_side_by_side(folder, two_records, capsys):
    small, large = str(two_records / "small.json"), str(two_records / "large.json")
    capsys.readouterr()
    assert main(["compare", small, large]) == 0
    shown = capsys.readouterr().out
    frame = pd.read_parquet(folder / "rows.parquet")
    fits = [dg.glm(formula, frame, "poisson") for formula in ("y ~ x", "y ~ x + C(g)")]
    lines = {line[:11].strip(): line.split()[1:] for line in shown.split("\n") if line.strip()}
    assert lines["x"] == [f"{fit.params['x']:.4f}" for fit in fits]
    assert lines["C(g)[T.b]"] == [f"{fits[1].params['C(g)[T.b]']:.4f}"]
    assert f"({fits[0].bse['x']:.4f})" in shown and "Standard errors in brackets." in shown
    assert lines["AIC"] == [f"{fit.aic:,.2f}" for fit in fits]
    for format, sign in (("markdown", "|"), ("latex", "\\\\"), ("html", "<table"), ("csv", ",")):
        assert main(["compare", small, large, "--format", format, "--below", "pvalue"]) == 0
        told = capsys.readouterr().out
        assert sign in told and f"{fits[0].params['x']:.4f}" in told


def test_compare_of_what_is_no_record(two_records, tmp_path, capsys):
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "text.json").write_text("no json")
    for name, words in (("other", "is no record of a fit (it has no coefficients)"), ("text", "is no record of a fit"),
                        ("absent", "No such file")):
        assert main(["compare", str(two_records / "small.json"), str(tmp_path / f"{name}.json")]) == 1
        assert words in capsys.readouterr().err
    assert main(["compare", *[str(two_records / "small.json")] * 2]) == 1
    assert "one file twice" in capsys.readouterr().err


def test_compare_of_classes(folder, tmp_path, capsys):
    out = tmp_path / "classes.json"
    assert main(["fit", "g ~ x", str(folder / "rows.csv"), "--family", "multinomial", "--out", str(out)]) == 0
    assert main(["compare", str(out)]) == 0
    assert "b: x" in capsys.readouterr().out


def test_a_fit_that_does_not_converge_says_so_to_the_shell(tmp_path, capsys):
    r = np.random.default_rng(0)
    x = r.normal(size=50_000)
    pd.DataFrame({"x": x, "y": r.poisson(np.exp(x))}).to_parquet(tmp_path / "rows.parquet")
    out = tmp_path / "late.json"
    assert main(["fit", "y ~ x", str(tmp_path / "rows.parquet"), "--family", "poisson", "--tol", "1e-12", "--max-iter",
                 "1", "--out", str(out)]) == 3
    assert capsys.readouterr().err.startswith("warning: ")
    assert json.loads(out.read_text())["converged"] is False
