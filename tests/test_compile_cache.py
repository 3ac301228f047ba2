"""The disk cache of compiled kernels: it saves compilations and never serves another function's code."""

import dataclasses
import hashlib
import importlib
import json
import logging
import os
import pathlib
import pkgutil
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import numpy as np
import pytest
from numba.core import event
from numba.core.dispatcher import Dispatcher
from scipy import special, stats

import daskglm_rep
from daskglm_rep import _compile_cache, families, links
from daskglm_rep._fingerprint import NotDescribed, describe
from daskglm_rep._jit import ScalarModel
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.rows import inverse_link
from daskglm_rep.kernels.survey import spread

ROOT = pathlib.Path(daskglm_rep.__file__).parent.parent
ETA = np.linspace(-2.0, 2.0, 5)
MEANS = {"logit": special.expit(ETA), "log": np.exp(ETA), "probit": stats.norm.cdf(ETA),
         "cloglog": -np.expm1(-np.exp(ETA)), "cauchit": 0.5 + np.arctan(ETA) / np.pi}

# The package without its __init__, whose dask and scikit-learn take two seconds to import.
HEAD = """
import dataclasses, json, os, sys, types
package = types.ModuleType("daskglm_rep")
package.__path__ = [sys.argv[1]]
sys.modules["daskglm_rep"] = package
import numpy as np
from numba.core import event
from daskglm_rep import links
from daskglm_rep.kernels.rows import inverse_link

def means(link):
    return inverse_link(link, np.linspace(-2.0, 2.0, 5)).tolist()
"""
BUILT_IN = HEAD + """
with event.install_recorder("numba:compile") as recorder:
    found = {name: means(links.get_link(name)) for name in sys.argv[2:]}
print(json.dumps([found, len(recorder.buffer)]))
"""
FIT = """
import json, sys
import numpy as np
from numba.core import event
from daskglm_rep import LogisticRegression
x = np.random.default_rng(0).normal(size=(300, 2))
with event.install_recorder("numba:compile") as recorder:
    model = LogisticRegression().fit(x, x[:, 0] + np.cos(7 * x[:, 1]) > 0)
late = {"dask.dataframe", "formulaic", "matplotlib", "sklearn.metrics", "distributed"} & sys.modules.keys()
print(json.dumps([model.coef_.tolist(), len(recorder.buffer), sorted(late)]))
"""


def start(script, folder, *arguments, root=ROOT):
    environment = os.environ | {"DASKGLM_REP_CACHE": str(folder), "PYTHONPATH": str(root)}
    return subprocess.Popen([sys.executable, "-c", script, str(root / "daskglm_rep"), *arguments], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process):
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert not errors
    return json.loads(out)


def run(*arguments, **options):
    return result(start(*arguments, **options))


def kernels(folder):
    return sorted(pathlib.Path(folder).glob("*/*"))


def check(found, names):
    for name in names:
        np.testing.assert_allclose(found[name], MEANS[name], rtol=1e-12)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that four cold processes filled at once, and what they found."""
    folder = tmp_path_factory.mktemp("shared")
    names = list(MEANS)
    processes = [start(BUILT_IN, folder, *names[k:], *names[:k]) for k in range(4)]
    return folder, [result(process) for process in processes]


@pytest.fixture
def warm(shared, tmp_path):
    shutil.copytree(shared[0], tmp_path / "warm")
    return tmp_path / "warm"


def test_cold_processes_at_once_are_right_and_leave_a_sound_cache(shared):
    folder, answers = shared
    for found, compiled in answers:
        check(found, MEANS)
    for path in kernels(folder):
        data = path.read_bytes()
        assert path.suffix == ".kernel" and data[:32] == hashlib.sha256(data[32:]).digest()
    found, compiled = run(BUILT_IN, folder, *MEANS)
    check(found, MEANS)
    assert compiled == 0


def test_the_second_process_compiles_nothing_to_fit_and_imports_what_arrays_need(tmp_path):
    first, compiled, _ = run(FIT, tmp_path)
    second, again, late = run(FIT, tmp_path)
    assert first == second and compiled > 0 and again == 0 and not late


def test_an_edited_formula_is_seen(tmp_path):
    shutil.copytree(ROOT / "daskglm_rep", tmp_path / "daskglm_rep", ignore=shutil.ignore_patterns("__pycache__"))
    names, folder = ("logit", "probit"), tmp_path / "cache"
    check(run(BUILT_IN, folder, *names, root=tmp_path)[0], names)
    source = tmp_path / "daskglm_rep" / "links.py"
    text = source.read_text()
    edits = [("(1.0 if eta >= 0.0 else t) / (1.0 + t)", "0.5 * (1.0 if eta >= 0.0 else t) / (1.0 + t)"),
             ("return 0.5 * math.erfc(", "return 0.25 * math.erfc(")]          # a method; a function that it calls
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    source.write_text(text)
    found, compiled = run(BUILT_IN, folder, *names, root=tmp_path)
    for name in names:
        np.testing.assert_allclose(found[name], 0.5 * MEANS[name], rtol=1e-12)
    assert compiled > 0


def test_damaged_files_are_compiled_again(warm):
    paths = kernels(warm)
    for k, path in enumerate(paths):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes((data, data[:len(data) // 2], b"")[k % 3])
    found, compiled = run(BUILT_IN, warm, "logit", "log")
    check(found, ("logit", "log"))
    assert compiled > 0
    assert run(BUILT_IN, warm, "logit", "log") == [found, 0]


def test_a_killed_writer_leaves_nothing_half(tmp_path):
    killed = start(HEAD + "os.replace = lambda *names: os._exit(9)\nmeans(links.Logit())", tmp_path)
    killed.communicate()
    assert killed.returncode == 9
    assert [path.suffix for path in kernels(tmp_path)] == [".part"]
    check(run(BUILT_IN, tmp_path, "logit")[0], ["logit"])


@pytest.mark.parametrize("where", ["off", "0", "file/below"])
def test_without_a_folder_the_library_works_silently(where, tmp_path):
    (tmp_path / "file").write_text("")
    found, compiled = run(BUILT_IN, where if "/" not in where else tmp_path / where, "log")
    check(found, ["log"])
    assert compiled > 0 and kernels(tmp_path) == []


OWN = HEAD + """
from numba.extending import register_jitable
FACTOR = float(sys.argv[2])

@register_jitable
def scaled(x):
    return {factor} * x

@dataclasses.dataclass(frozen=True)
class Own(links.Link):
    def inverse(self, eta):
        return {formula}

with event.install_recorder("numba:compile") as recorder:
    found = means(Own())
print(json.dumps([found, len(recorder.buffer)]))
"""


def test_a_link_of_ones_own_is_known_by_its_formulas_and_the_constants_they_read(tmp_path):
    script = OWN.format(factor=0, formula="FACTOR * eta")
    for factor, cold in (("2", True), ("3", True), ("2", False)):
        found, compiled = run(script, tmp_path, factor)
        np.testing.assert_allclose(found, float(factor) * ETA)
        assert (compiled > 0) == cold
    assert run(OWN.format(factor=0, formula="FACTOR + eta"), tmp_path, "2")[0] == (2.0 + ETA).tolist()


def test_a_link_whose_code_cannot_be_followed_is_not_kept(tmp_path):
    for factor in (2.0, 3.0):
        found, compiled = run(OWN.format(factor=factor, formula="scaled(eta)"), tmp_path, "0")
        assert found == (factor * ETA).tolist() and compiled > 0
    assert kernels(tmp_path) == []


def test_every_kernel_of_the_package_can_be_kept():
    names = [m.name for m in pkgutil.walk_packages(daskglm_rep.__path__, "daskglm_rep.") if "__main__" not in m.name]
    modules = [importlib.import_module(name) for name in names]
    dispatchers = {id(d): d for module in modules for d in vars(module).values() if isinstance(d, Dispatcher)}
    assert len(dispatchers) > 30
    for dispatcher in dispatchers.values():
        describe(dispatcher, lambda text: None, {})


def test_the_description_follows_constants_closures_and_calls():
    def text_of(function):
        parts = []
        describe(function, parts.append, {})
        return parts

    def make(constant, default):
        def formula(x, power=default):
            return constant * abs(x) ** power
        return formula

    assert text_of(make(1.0, 2)) == text_of(make(1.0, 2))
    assert text_of(make(1.0, 2)) != text_of(make(np.nextafter(1.0, 2.0), 2))
    assert text_of(make(1.0, 2)) != text_of(make(1.0, 2.0))
    with pytest.raises(NotDescribed):
        text_of(make(make, 2))


def test_one_build_serves_every_layout():
    table = np.arange(40.0).reshape(8, 5)
    want = inverse_link(links.Log(), table[:, 1].copy())
    moments = spread(table.copy(), np.ones(8))
    frozen = table.copy()
    frozen.flags.writeable = False
    with event.install_recorder("numba:compile") as recorder:
        assert inverse_link(links.Log(), table[:, 1]).tolist() == want.tolist()
        assert inverse_link(links.Log(), frozen[:, 1]).tolist() == want.tolist()
        for X in (frozen, np.asfortranarray(table), np.repeat(table, 2, 0)[::2], np.repeat(table, 2, 1)[:, ::2]):
            for weight in (np.ones(8), np.ones(16)[::2], np.broadcast_to(1.0, 8)):
                np.testing.assert_array_equal(spread(X, weight).squares, moments.squares)
    assert not recorder.buffer


def test_threads_that_meet_a_new_model_compile_it_once(monkeypatch):
    monkeypatch.setattr(_compile_cache, "folder", lambda: None)

    @dataclasses.dataclass(frozen=True)
    class Fresh(ScalarModel):
        def inverse(self, eta):
            return eta

    with event.install_recorder("numba:compile") as recorder, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: inverse_link(Fresh(), ETA).tolist(), range(4)))
    assert found == [ETA.tolist()] * 4
    names = [e.data["dispatcher"].__name__ for _, e in recorder.buffer if e.is_start]
    assert names.count("_inverse_link") == 1


def test_pickled_models_carry_no_compiled_code():
    x = np.random.default_rng(0).normal(size=(300, 2))
    model = daskglm_rep.LogisticRegression().fit(x, x[:, 0] + np.cos(7 * x[:, 1]) > 0)
    for value in (model, model.results_, block_moments, families.GLM.of("binomial")):
        assert b"numba" not in cloudpickle.dumps(value)


def age(path, days):
    os.utime(path, (time.time() - 86400 * days,) * 2)


def test_old_files_go_and_others_stay(tmp_path, monkeypatch):
    home = tmp_path / "0123456789abcdef"
    empty = tmp_path / "fedcba9876543210"
    foreign = tmp_path / "photographs"
    for path in (home, empty, foreign):
        path.mkdir()
    ages = {home / "old.kernel": 31, home / "young.kernel": 29, home / "dead.part": 1, home / "writing.part": 0,
            home / "letter.txt": 99, foreign / "old.kernel": 99}
    for path, days in ages.items():
        path.write_bytes(b"1234")
        age(path, days)
    _compile_cache.prune(tmp_path)
    assert {p for p in ages if not p.exists()} == {home / "old.kernel", home / "dead.part"} and not empty.exists()
    monkeypatch.setattr(_compile_cache, "MOST_BYTES", 10)
    for number in range(4):
        path = home / f"{number}.kernel"
        path.write_bytes(b"1234")
        age(path, number)
    _compile_cache.prune.cache_clear()
    _compile_cache.prune(tmp_path)
    assert sorted(p.name for p in home.iterdir()) == ["0.kernel", "letter.txt", "writing.part"]


def test_forked_processes_number_their_functions_apart(tmp_path):
    if not hasattr(os, "fork"):
        pytest.skip("forks are POSIX's")
    script = HEAD + """
from numba.core.bytecode import FunctionIdentity
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, str(next(FunctionIdentity._unique_ids)).encode())
    os._exit(0)
child = int(os.read(reader, 100))
print(json.dumps([child, next(FunctionIdentity._unique_ids)]))
"""
    child, parent = run(script, tmp_path)
    other, _ = run(script, tmp_path)
    assert len({child, parent, other}) == 3 and min(child, parent, other) > 2 ** 20


@pytest.mark.parametrize("terminal", [True, False])
def test_compiling_is_said_once(terminal, monkeypatch, caplog, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    _compile_cache.announce.cache_clear()
    with caplog.at_level(logging.INFO, "daskglm_rep"):
        _compile_cache.announce()
        _compile_cache.announce()
    assert [record.getMessage()[:38] for record in caplog.records] == ["compiling kernels, once per installati"]
    assert capsys.readouterr().err.count("daskglm_rep: compiling") == int(terminal)


NOTEBOOK = HEAD + """
from numba import njit
LINK = '''
class PH(links.Link):
    name = "ph"
    def inverse(self, eta): return h(eta)
'''
for i, power in enumerate(sys.argv[2:]):          # cells run again: g and the class, but not h, which has g compiled in
    exec(f"@njit\\ndef g(x): return x ** {power}")
    if i == 0:
        exec("@njit\\ndef h(x): return g(x)")
    exec(LINK)
    found = means(PH())
print(json.dumps([found]))
"""


def test_a_stale_helper_of_a_notebook_does_not_reach_other_processes(tmp_path):
    result(start(NOTEBOOK, tmp_path, "2", "3"))
    assert result(start(NOTEBOOK, tmp_path, "3"))[0] == pytest.approx(ETA ** 3)
