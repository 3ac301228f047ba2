"""The API reference: every public name is on a page with an example that runs, and pages build without a warning."""

import contextlib
import doctest
import importlib
import inspect
import io
import pathlib
import re
import subprocess
import sys

import pytest

import daskglm_rep as dg

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.rst"))


def listed():
    """Names that the pages list, in full."""
    found = []
    for page in PAGES:
        module = ""
        for line in page.read_text().split("\n"):
            if line.startswith(".. currentmodule::"):
                module = line.split("::")[1].strip() + "."
            elif re.fullmatch(r"   [\w.]+\w", line) and page.stem != "index":
                found.append(line.strip() if line.strip().startswith("daskglm_rep.") else module + line.strip())
    return found


def thing(name):
    """What a dotted name names."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError):
            found = importlib.import_module(".".join(parts[:cut]))
            for part in parts[cut:]:
                found = getattr(found, part)
            return found
    raise ImportError(name)


NAMES = listed()


def test_every_public_name_is_on_a_page():
    public = [getattr(dg, name) for name in dg.__all__ if name != "__version__"]
    public += [found for name, found in vars(dg.plotting).items() if name.startswith("plot_")]
    public += [getattr(dg.partitions, name) for name in dg.partitions.__all__ if name != "Partition"]
    shown = {id(thing(name)) for name in NAMES}
    assert not [f"docs/*.rst: list {found.__name__}" for found in public
                if not inspect.ismodule(found) and id(found) not in shown]
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_an_example(name):
    found = thing(name)
    text = inspect.getdoc(found)
    assert "Examples\n--------\n>>> " in text
    assert text.index("\n\n") < 160 or "\n\n" not in text                           # a sentence comes first


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name, monkeypatch):
    found = thing(name)
    tests = doctest.DocTestFinder(recurse=False).find(found, name, globs={})
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    told = io.StringIO()
    for test in tests:
        runner.run(test, out=told.write)
    assert runner.tries and not runner.failures, told.getvalue()


@pytest.mark.slow
def test_the_pages_build_without_a_warning(tmp_path):
    pytest.importorskip("sphinx"), pytest.importorskip("numpydoc")
    sources = tmp_path / "docs"
    subprocess.run(["cp", "-r", str(ROOT / "docs"), str(sources)], check=True)
    ran = subprocess.run([sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(sources),
                          str(tmp_path / "html")], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-3000:]
    page = (tmp_path / "html" / "generated" / "daskglm_rep.PoissonRegressor.html").read_text()
    assert "overdispersion" not in page and "distance_to_optimum_" in page and "Examples" in page
