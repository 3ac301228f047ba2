"""How questions and answers travel: a folder of files, or dask workers that stay where their site's rows are."""

import dataclasses
import json
import re
from pathlib import Path

import dask.dataframe as dd

from daskglm_rep.localised.coordinator import Coordinator
from daskglm_rep.localised.messages import Message
from daskglm_rep.localised.site import Site

NAME = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclasses.dataclass(frozen=True)
class Study:
    """A folder that a coordinator and the sites share, or whose files they mail to each other.

    `study.json` says what is fitted and between whom, `question-01.npz` is what is asked first, `answer-01-NAME.npz`
    what a site said. Nothing else is kept: whoever has the files has the study.

    Parameters
    ----------
    folder : path

    Examples
    --------
    >>> import tempfile
    >>> from daskglm_rep.localised import Study
    >>> study = Study.begin(tempfile.mkdtemp(), ["north", "south"], formula="died ~ age", family="binomial")
    >>> study.question_file(1).name, study.advance()[1]
    ('question-01.npz', ['north', 'south'])
    """

    folder: Path

    @classmethod
    def begin(cls, folder, sites, **model):
        """Write `study.json` and the first question.

        Parameters
        ----------
        folder : path
        sites : list of str
            Their names: letters, digits, - and _.
        model : arguments of `Coordinator`

        Raises
        ------
        ValueError
            A folder that holds a study; names that are no names, or twice.
        """
        folder = Path(folder)
        bad = [name for name in sites if not NAME.match(name)]
        if bad or len(set(sites)) < len(sites) or not sites:
            raise ValueError("Sites need distinct names of letters, digits, - and _, got "
                             f"{', '.join(sites) or 'none'}.")
        if (folder / "study.json").exists():
            raise ValueError(f"{folder} holds a study already: take another folder.")
        Coordinator(**model)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "study.json").write_text(json.dumps({"sites": list(sites)} | model, indent=1) + "\n")
        study = cls(folder)
        study.advance()
        return study

    @property
    def sites(self):
        return self._said["sites"]

    @property
    def _said(self):
        path = Path(self.folder) / "study.json"
        if not path.exists():
            raise FileNotFoundError(f"{self.folder} holds no study: begin one first.")
        return json.loads(path.read_text())

    def question_file(self, number):
        return Path(self.folder) / f"question-{number:02d}.npz"

    def answer_file(self, number, site):
        return Path(self.folder) / f"answer-{number:02d}-{site}.npz"

    def advance(self):
        """Read what has come and write the next question.

        Returns
        -------
        coordinator : Coordinator
        waiting : list of str
            Sites that have not answered the question asked last; empty when the fit is done.
        """
        said = self._said
        coordinator = Coordinator(**{k: v for k, v in said.items() if k != "sites"})
        while (question := coordinator.question()) is not None:
            number = question.facts["number"]
            if not self.question_file(number).exists():
                question.write(self.question_file(number))
            files = {site: self.answer_file(number, site) for site in said["sites"]}
            waiting = [site for site, file in files.items() if not file.exists()]
            if waiting:
                return coordinator, waiting
            coordinator.receive([Message.read(file) for file in files.values()])
        return coordinator, []


def answer_file(question, out, site):
    """Answer a question file into another; returns the answer."""
    answer = site.answer(Path(question).read_bytes())
    answer.write(out)
    return answer


@dataclasses.dataclass(frozen=True)
class Workers:
    """Sites on dask workers, each known by a resource that only its workers carry: pass it to `Coordinator.fit`.

    A site's rows are read inside the one task that answers, from a path that only its worker can read, and the task
    gives the answer file's bytes. Placement is hard: without a worker that carries the resource the task waits. Start
    workers as `dask worker scheduler:8786 --resources "hospital-a=1"`.

    Parameters
    ----------
    client : distributed.Client
    sites : dict of str to dict
        Resource -> arguments of `Site` (data and ledger are paths on the worker, rules a path or `Rules`).
    timeout : float, optional
        Seconds to wait for all answers.
    """

    client: object
    sites: dict
    timeout: float | None = None

    def __call__(self, question):
        """Answers to a question, as files' bytes."""
        content = question.to_bytes()
        futures = [self.client.submit(answer_on_worker, content, {"name": tag} | how, resources={tag: 1}, pure=False,
                                      allow_other_workers=False, key=f"answer-{tag}-{question.facts['study']}-"
                                      f"{question.facts['number']}-{i}")
                   for i, (tag, how) in enumerate(self.sites.items())]
        return self.client.gather(futures) if self.timeout is None else [f.result(self.timeout) for f in futures]


def answer_on_worker(content, how):
    """The task of a site's worker: a whole answer.

    The table is read into this task first. A lazy one would be swept by the cluster that the task runs on, whichever
    scheduler its process is configured for.
    """
    site = Site(**how)
    if isinstance(site.table, dd.DataFrame):
        site.table = site.table.compute(scheduler="synchronous")
    return site.answer(content).to_bytes()
