"""The library's version, and pickles that remember it."""

import importlib.metadata

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
