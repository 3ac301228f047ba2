"""Formulas of strangers: nothing but terms passes `allow="terms"`, and nothing is run to find out."""

import os

import numpy as np
import pandas as pd
import pytest

from daskglm_rep import glm, mnlogit
from daskglm_rep.formula.assembly import parse

rng = np.random.default_rng(2)
TABLE = pd.DataFrame({"y": rng.poisson(2.0, 300).astype(float), "x": rng.uniform(1, 2, 300), "z": rng.normal(size=300),
                      "g": rng.choice(["u", "v", "w"], 300), "a b": rng.normal(size=300),
                      "year": rng.choice([2000, 2001, 2002], 300)})
WRITES = ["y ~ log(x, z)", "y ~ log(x, out=z)", "y ~ exp(x, out=y)", "y ~ np.sqrt(x, z)", "y ~ np.maximum(x, z, z)",
          "y ~ log(x, where=x > 1)", "y ~ np.where(x)"]

GOOD = ["y ~ x * z + g", "y ~ C(g, contr.treatment('v')):x", "log(y + 1) ~ poly(x, 2) + bs(z, df=5)",
        "y ~ (x + z + g) ** 2", "y ~ I(x ** 2) + I(-x / z)", "y ~ np.sqrt(x) + {x * 2.5}",
        "y ~ log(`a b` ** 2 + 1) + Q('z')", "y ~ I(x > 1.5)", "y ~ I(g == 'v')", "y ~ bs(x, knots=[1.2, 1.4])",
        "y ~ scale(center(x)) - 1", "y ~ np.where(x > 1.5, x, z)", "y ~ I(year > 2000)",
        "y ~ C(year, contr.treatment(2001))", "y ~ bs(1000 * x, df=4, lower_bound=900, upper_bound=2100)",
        "y ~ np.maximum(x, 1.5)"]
BAD = ["y ~ I(__import__('os').system('touch {0}'))", "y ~ {{open('{0}', 'w')}}", "y ~ x.__class__",
       "y ~ I(np.save('{0}', x))", "y ~ I(x.to_csv('{0}'))", "y ~ eval(\"open('{0}', 'w')\")",
       "open('{0}', 'w') ~ x", "y ~ I((lambda: open('{0}', 'w'))())", "y ~ I([open('{0}', 'w') for _ in (1,)])",
       "y ~ C(g, levels=open('{0}', 'w'))", "y ~ I(x if open('{0}', 'w') else z)", "y ~ I(x[open('{0}', 'w')])",
       "y ~ I(f'{{open(\"{0}\", \"w\")}}')", "y ~ bs(x, **dict(df=open('{0}', 'w')))", "y ~ log(*open('{0}', 'w'))",
       "y ~ np.lib.npyio.open('{0}', 'w')", "y ~ I((q := open('{0}', 'w')))", "y ~ contr.custom(open('{0}', 'w'))",
       "y ~ I(x and open('{0}', 'w'))", "y ~ getattr(x, 'to_csv')('{0}')", "y ~ print(x)", "y ~ mine(x)",
       "y ~ print", "y ~ mine"]
HUGE = ["y ~ I(10 ** 10 ** 10 * x)", "y ~ I('a' * 1000000000)", "y ~ bs(x, df=100000)", "y ~ poly(x, 5000)",
        "y ~ I(x ** z)", "y ~ (x + z + g) ** 50", f"y ~ {' * '.join(['x', 'z', 'g'] * 8)}",
        f"y ~ {'+'.join(['x'] * 9_000)}", "y ~ I(2 ** 100000000)", "y ~ (x + z) ** x",
        "y ~ poly(x, 3 * 1000)", "y ~ bs(x, df=10 * 1000)", "y ~ bs(x, df=1e9)", "y ~ cr(x, df=1000)",
        "y ~ bs(x, degree=1000)", f"y ~ bs(x, knots=[{', '.join(['1.5'] * 101)}])", "y ~ (x + z) ** 1.5",
        f"y ~ {':'.join(f'I(x + {i})' for i in range(9))}", f"y ~ ({'+'.join(f'x{i}' for i in range(64))}) ** 2",
        f"y ~ ({'+'.join(f'x{i}' for i in range(99))}) ** 3"]


@pytest.mark.parametrize("formula", GOOD)
def test_terms_pass_and_mean_the_same(formula):
    closed, open_ = (glm(formula, TABLE, allow=allow) for allow in ("terms", "code"))
    assert closed.params.to_dict() == open_.params.to_dict()


@pytest.mark.parametrize("formula", BAD)
def test_code_is_refused_before_it_runs(formula, tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(ValueError, match="allow='terms' does not take|cannot be read"):
        glm(formula.format(mark), TABLE, allow="terms", context={"mine": np.log})
    assert not mark.exists() and not os.listdir(tmp_path)


@pytest.mark.parametrize("formula", HUGE)
def test_short_texts_with_large_answers_are_refused(formula):
    with pytest.raises(ValueError, match="allow='terms'"):
        glm(formula, TABLE, allow="terms")


@pytest.mark.parametrize("formula", WRITES)
def test_numpy_is_told_of_no_place_to_write(formula):
    with pytest.raises(ValueError, match="allow='terms' does not take"):
        glm(formula, TABLE, allow="terms")


@pytest.mark.parametrize("allow", ["terms", "code"])
@pytest.mark.parametrize("formula", ["y ~ C(x) * C(z) * C(`a b`)", "y ~ 0 + C(x):C(z)",
                                     "y ~ bs(x, df=90):bs(z, df=90):g"])
def test_columns_are_counted_before_they_are_made(formula, allow):
    with pytest.raises(ValueError, match="makes .* columns: more than 12,000"):
        glm(formula, TABLE, allow=allow)


@pytest.mark.parametrize("formula, words", [
    ("y ~ Q(1)", "cannot be evaluated: KeyError: 1"), ("y ~ C(g, 3)", "cannot be evaluated: IndexError"),
    ("y ~ C((x, z))", r"'C\(\(x, z\)\)' of the formula gives 2 values for 300 rows"),
    ("y ~ poly(x, 0)", r"'poly\(x, 0\)' of the formula makes no columns")])
def test_calls_that_fit_no_rows_are_told(formula, words):
    with pytest.raises(ValueError, match=words):
        glm(formula, TABLE)


def test_every_formula_is_python_unless_it_is_said(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(ValueError):
        glm(f"y ~ I(open('{mark}', 'w').write('x'))", TABLE)
    assert mark.exists()                           # as in patsy: documented, and why there is a closed mode
    with pytest.raises(ValueError, match="allow='all' is not known: choose 'code'"):
        glm("y ~ x", TABLE, allow="all")
    with pytest.raises(ValueError, match="does not take"):
        mnlogit("g ~ I(open('q'))", TABLE, allow="terms")


def test_a_column_called_like_a_function_is_a_column():
    assert parse("y ~ log + I(log + 1)", ["y", "log"], {}, "terms").rhs_columns == ["log"]
    with pytest.raises(ValueError, match="does not take"):
        parse("y ~ I(os + 1)", ["y", "x"], {"os": os}, "terms")
    for call in ("log(x)", "np.sqrt(x)"):
        with pytest.raises(ValueError, match="calls '(log|np)', which is a column of data"):
            parse(f"y ~ {call}", ["y", "x", "log", "np"], {})
