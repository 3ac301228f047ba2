"""The notebooks run as they are, and the files that readers open are complete, small and of no particular machine."""

import os
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")

FAST = ("coming_from", "doctor_visits", "party_identification")          # the others run in the slow tier

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def kernel_of_this_python(tmp_path, monkeypatch):
    """A kernel "python3" of the running interpreter and this checkout, whatever kernels the machine has."""
    kernelspec = pytest.importorskip("ipykernel.kernelspec")
    kernelspec.write_kernel_spec(path=str(tmp_path / "kernels" / "python3"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))          # no start-up files of a user
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("TMPDIR", str(tmp_path))               # pytest removes the data that a notebook writes
    return "python3"


@pytest.mark.parametrize("path", [pytest.param(path, marks=() if path.stem in FAST else pytest.mark.slow, id=path.stem)
                                  for path in NOTEBOOKS])
def test_runs_from_top_to_bottom(path, kernel_of_this_python, tmp_path):
    pytest.importorskip("statsmodels")
    pytest.importorskip("matplotlib")
    notebook = read(path)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name=kernel_of_this_python,
                            resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell, stored in zip(code_cells(notebook), code_cells(read(path)), strict=True):
        assert [o.output_type for o in cell.outputs if o.get("name") != "stderr"] == \
               [o.output_type for o in stored.outputs], cell.source


@each_notebook
def test_stored_outputs_are_complete_and_small(path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)
    assert path.stat().st_size < 200_000


@each_notebook
def test_names_no_machine(path):
    notebook, text = read(path), path.read_text()
    assert notebook.metadata.kernelspec.name == "python3" and "/" not in str(notebook.metadata.kernelspec)
    places = {str(ROOT), str(pathlib.Path.home()), sys.prefix}
    assert not [place for place in places if len(place) > 5 and place in text]
    assert not re.search(r"(?<![\w.:/])/(home|Users|root|tmp|var|mnt|opt)/\w", text)
