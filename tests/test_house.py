"""The layer picture of README.md is true: imports go down it, late ones too, and no circle of files remains."""

import ast
import graphlib
import re
import tomllib
from pathlib import Path

import pytest

import daskglm_rep
from daskglm_rep import models
from daskglm_rep.models.glm import GLM
from daskglm_rep.models.multinomial import Multinomial

ROOT = Path(__file__).parents[1]
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
         for path in ROOT.glob("daskglm_rep/**/*.py")}
PICTURE = (ROOT / "README.md").read_text().split("## How it is built")[1]
ROOMS = [word for line in PICTURE.splitlines() if line.startswith("    ") for word in line[6:52].split()]


def room(module):
    return module.split(".")[1]


def imports(module):
    """Modules of the package that a module imports, in functions too."""
    named = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports by dots"
            named |= {f"{node.module}.{alias.name}" for alias in node.names}
    named = {name if name in FILES else name.rpartition(".")[0] for name in named}
    return named & FILES.keys()


INSIDE = {module: imports(module) for module in FILES if module != "daskglm_rep"}


def test_every_room_is_in_the_picture_once():
    assert sorted(ROOMS) == sorted({room(module) for module in INSIDE})


def test_imports_go_down_only():
    up = [f"{module} imports {other}" for module, others in INSIDE.items() for other in others - {"daskglm_rep"}
          if room(other) != room(module) and ROOMS.index(room(other)) < ROOMS.index(room(module))]
    assert not up


def test_no_files_import_each_other_in_a_circle():
    assert {module for module, others in INSIDE.items() if "daskglm_rep" in others} <= {"daskglm_rep.__main__"}
    graphlib.TopologicalSorter(INSIDE).prepare()


def test_late_names_are_those_that_type_checkers_read():
    seen = next(node for node in ast.parse((ROOT / "daskglm_rep" / "__init__.py").read_text()).body
                if isinstance(node, ast.If))
    read = {(alias.name if node.module == "daskglm_rep" else node.module.removeprefix("daskglm_rep."), alias.name)
            for node in seen.body for alias in node.names}
    assert read == {(module, name) for module, names in daskglm_rep._LATE.items() for name in names or (module,)}
    assert all(getattr(daskglm_rep, name) is not None for name in daskglm_rep.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        daskglm_rep.nothing


def test_stated_floors_are_the_versions_of_the_slow_tier():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(re.match(r"([\w-]+).*?>=([\d.]+)", line).groups() for line in stated if ">=" in line)
    tested = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "tests" / "oldest.txt").read_text(), re.M))
    assert tested.keys() == floors.keys()
    assert all(set((tested[name] + ".").removeprefix(floor + ".")) <= set("0.") for name, floor in floors.items())


def test_models_are_asked_and_not_told_apart():
    told = re.compile(r'(has|get)attr\([^()]*model[^()]*,|(has|get)attr\([^()]*, "(link|family)"|\[type\(model\)\]')
    assert not [module for module, path in FILES.items() if told.search(path.read_text())]


@pytest.mark.parametrize("model", [GLM.of("poisson"), Multinomial(3)], ids=str)
def test_models_have_what_the_room_promises(model):
    promised = re.findall(r"`([a-z_]+)`", models.__doc__)
    assert len(promised) > 20 and not [name for name in promised if not hasattr(model, name)]
