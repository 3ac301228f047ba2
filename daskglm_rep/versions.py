"""The library's version, and pickles that remember it."""

import importlib.metadata
import os
import pickle

from daskglm_rep.telling import VersionWarning, tell

from dask.tokenize import normalize_token

try:
    __version__ = importlib.metadata.version("daskglm_rep")
except importlib.metadata.PackageNotFoundError:          # a source tree that nobody installed
    __version__ = "0+unknown"

KEY = "_daskglm_rep_version"


class Versioned:
    """Mixin: pickles carry the library's version, and one of another version warns when it is loaded."""

    def __dask_tokenize__(self):
        """Dask would name a dataclass by its fields: two fits of one estimator would share what is computed of them."""
        return normalize_token((type(self), self.__getstate__()))

    def __getstate__(self):
        return super().__getstate__() | {KEY: __version__}

    def __setstate__(self, state):
        made_by = state.get(KEY, "an unknown version")
        if made_by != __version__:
            tell(f"This {type(self).__name__} was pickled by daskglm_rep {made_by} and is loaded by "
                 f"{__version__}: its numbers may be wrong and its methods fail; fit it again, or load it "
                 "with the version that made it.", VersionWarning)
        self.__dict__.update({name: value for name, value in state.items() if name != KEY})


def save(fitted, path):
    """Pickle fitted results to a file, whole or not at all.

    Parameters
    ----------
    fitted : results or estimator
    path : str or path
    """
    path = os.fspath(path)
    begun = f"{path}.{os.getpid()}.part"
    try:
        with open(begun, "wb") as file:
            pickle.dump(fitted, file, protocol=5)
        os.replace(begun, path)
    except BaseException:
        if os.path.exists(begun):
            os.remove(begun)
        raise


def load(path):
    """Read what `results.save(path)` wrote.

    Files are pickles: open only those that you or people you trust have written. One of another version of the library
    warns.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    GLMResults or FormulaResults

    Raises
    ------
    ValueError
        The file holds something else.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> import tempfile
    >>> from daskglm_rep import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results.save(folder + "/visits.pickle")
    ...     same = load(folder + "/visits.pickle")
    >>> bool((same.params == results.params).all())
    True
    """
    with open(path, "rb") as file:
        try:
            found = pickle.load(file)
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)!r} holds no results that this version can read ({error}): fit again "
                             "and write them with results.save(path).") from error
    if not isinstance(found, Versioned):
        raise ValueError(f"{os.fspath(path)!r} holds a {type(found).__name__}, no results of this library: write them "
                         "with results.save(path).")
    return found
