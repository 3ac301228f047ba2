"""On a real Slurm: workers are jobs, a job is cancelled in the middle, and the answer is that of this process."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import slurm_node

from daskglm_rep import backend, glm, passes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    bool(slurm_node.missing()), reason=f"Slurm is not installed: {', '.join(slurm_node.missing())} (apt-get install "
                                       "slurm-wlm munge)")]
N_FILES, ROWS = 12, 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of Parquet files."""
    folder, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(5)
    for i in range(N_FILES):
        table = pd.DataFrame(rng.normal(size=(ROWS, 3)), columns=["a", "b", "c"]).assign(g=rng.choice(["u", "v"], ROWS))
        eta = 0.5 * table["a"] - 0.3 * table["b"] + 0.4 * (table["g"] == "v") - 1
        table.assign(y=(rng.random(ROWS) < 1 / (1 + np.exp(-eta))).astype(float)).to_parquet(folder / f"{i:02}.parquet")
    return folder


@pytest.fixture
def jobs(tmp_path):
    """Options of the back end on a Slurm of one node."""
    with slurm_node.running():
        yield dict(cores=1, processes=1, memory="900MB", walltime="00:20:00", python=sys.executable, timeout=240,
                   log_directory=str(tmp_path), silence_logs=50)


def _fit(folder):
    return glm("y ~ a + b * c + g", str(folder), family="binomial", cov_type="HC1", tol=1e-10)


def _running():
    found = subprocess.run(["squeue", "-h", "-t", "running", "-o", "%A"], capture_output=True, text=True, check=True)
    return found.stdout.split()


@pytest.mark.parametrize("size", [{"jobs": 2}, {"adapt": (1, 2)}], ids=["jobs", "adapt"])
def test_a_job_cancelled_in_the_middle_of_a_fit_changes_nothing(size, folder, jobs, monkeypatch):
    truth = _fit(folder)
    run, cancelled = passes.run, []

    def cancelling(*arguments, **options):
        total = run(*arguments, **options)
        if client.scheduler_info()["workers"] and not cancelled:
            cancelled.append(min(_running(), key=int))
            subprocess.run(["scancel", cancelled[0]], check=True)
        return total

    with backend("slurm", **size, **jobs) as client:
        monkeypatch.setattr(passes, "run", cancelling)
        results = _fit(folder)
        monkeypatch.undo()
        again = _fit(folder)
    assert len(cancelled) == 1
    for found in (results, again):
        assert found.params.to_numpy() == pytest.approx(truth.params.to_numpy(), rel=1e-9)
        assert found.bse.to_numpy() == pytest.approx(truth.bse.to_numpy(), rel=1e-6)


def test_jobs_that_never_start_end_in_a_sentence(folder, jobs):
    waiting = jobs | {"timeout": 5, "job_extra_directives": ["--begin=now+1hour"]}
    with backend("slurm", jobs=1, **waiting), pytest.raises(TimeoutError, match="No worker has come to .*queue"):
        _fit(folder)
