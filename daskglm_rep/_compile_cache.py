"""Compiled kernels on disk: one file a kernel and signature, named by everything that its machine code depends on.

The name holds a digest of what the compiler reads: the bytecode of the function and of all that it calls, the values of
the globals and closures that they read, the formulas of the model classes, the versions, the compiler's settings and the
CPU. So no file is ever out of date, in a notebook neither; an edit only makes files that nobody asks for, and these are
deleted by age. Files carry a checksum, are written beside and renamed into place, and whatever cannot be read, written
or described exactly is compiled as if there were no cache.
"""

import builtins
import hashlib
import inspect
import io
import itertools
import logging
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import types as python
from functools import cache
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core import config
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic
from numba.core.runtime import rtsys
from numba.core.serialize import NumbaPickler
from numba.core.sigutils import normalize_signature
from numba.misc.appdirs import AppDirs

VARIABLE = "DASKGLM_REP_CACHE"
UNUSED_DAYS, MOST_BYTES = 30, 2 ** 28
DAY, HOUR = 86400.0, 3600.0
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_NAMED = (type, python.FunctionType, python.BuiltinFunctionType, python.ModuleType, np.ufunc)
_VERSIONED = ("builtins", "math", "cmath", "operator", "numpy", "numba", "llvmlite")      # known by their version
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "FULL_TRACEBACKS",
             "DISABLE_INTEL_SVML", "ENABLE_PROFILING", "CUDA_LOW_OCCUPANCY_WARNINGS")
_SHAPE = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR          # numba clears others to trace

logger = logging.getLogger("daskglm_rep")


# ---------------------------------------------------------------- where


@cache
def folder():
    """The folder of the cache, or None: `DASKGLM_REP_CACHE` ("off" or "0": none), the user's, a temporary one."""
    asked = os.environ.get(VARIABLE, "")
    if asked.lower() in ("off", "0"):
        return None
    if asked:
        return Path(asked).expanduser()
    user = Path(AppDirs(appname="daskglm_rep", appauthor=False).user_cache_dir)
    return user if _writable(user) else _temporary()


def _writable(path):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(path, os.W_OK)


def _temporary():
    """A folder of our own among the temporary ones, where strangers write too: what they wrote is never loaded."""
    owner = os.getuid() if hasattr(os, "getuid") else ""
    path = Path(tempfile.gettempdir(), f"daskglm_rep-{owner}")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        state = path.lstat()
    except OSError:
        return None
    ours = owner == "" or (state.st_uid == owner and not state.st_mode & 0o022)
    return path if ours and not path.is_symlink() else None


# ---------------------------------------------------------------- what


class NotDescribed(Exception):
    """Compiled code depends on something whose value cannot be told."""


def describe(value, add, seen, called=False):
    """Feed `add` with all that the compiler reads of a function, a class of formulas or a constant.

    Parameters
    ----------
    value : object
    add : callable
        Takes one string after another.
    seen : dict
        Positions of the objects described before, by identity.
    called : bool
        Met in code: a plain function may stand for an implementation registered elsewhere, which is not seen here.

    Raises
    ------
    NotDescribed
    """
    if isinstance(value, _PLAIN):
        return add(f"{type(value).__name__} {value!r}")
    if isinstance(value, (tuple, list, set, frozenset, dict)):
        items = value.items() if isinstance(value, dict) else value
        items = items if isinstance(value, (tuple, list)) else sorted(items, key=repr)
        add(f"{type(value).__name__} {len(value)}")
        return [describe(item, add, seen, called) for item in items]
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        return add(f"{value.dtype.str} {value.shape} {value.tobytes().hex()}")
    module = value.__name__ if isinstance(value, python.ModuleType) else getattr(value, "__module__", None) or ""
    if isinstance(value, _NAMED) and module.partition(".")[0] in _VERSIONED:
        return add(f"named {module} {getattr(value, '__qualname__', value)}")
    if id(value) in seen:
        return add(f"seen {seen[id(value)]}")
    seen[id(value)] = len(seen)
    if isinstance(value, Dispatcher):
        describe(value.targetoptions, add, seen)
        return _describe_function(value.py_func, add, seen)
    if isinstance(value, _Intrinsic):
        return _describe_function(value._defn, add, seen)
    if isinstance(value, python.FunctionType) and not called:
        return _describe_function(value, add, seen)
    raise NotDescribed(repr(value))


def _describe_function(function, add, seen):
    add(f"function {function.__module__} {function.__qualname__}")
    for part in (function.__defaults__, function.__kwdefaults__):
        describe(part, add, seen, called=True)
    for cell in function.__closure__ or ():
        describe(cell.cell_contents, add, seen, called=True)
    _describe_code(function.__code__, function.__globals__, add, seen)


def _describe_code(code, scope, add, seen):
    add(f"code {code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars} {code.co_cellvars} "
        f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_flags & _SHAPE}")
    for value in code.co_consts:
        if isinstance(value, python.CodeType):
            _describe_code(value, scope, add, seen)
        else:
            describe(value, add, seen)
    for name in code.co_names:
        if name in scope:
            add(f"global {name}")
            value = scope[name]
            if isinstance(value, python.ModuleType) and value.__name__.partition(".")[0] not in _VERSIONED:
                _describe_attributes(value, code.co_names, add, seen)
            else:
                describe(value, add, seen, called=True)


def _describe_attributes(module, names, add, seen):
    for name in names:
        if hasattr(module, name):
            add(f"attribute {name}")
            describe(getattr(module, name), add, seen, called=True)


def _describe_type(kind, add, seen):
    """A type of a signature; a model's type tells its formulas."""
    add(f"type {kind.name}")
    if hasattr(kind, "formulas"):
        for name, method in kind.formulas():
            add(f"formula {name}")
            describe(method, add, seen)
    elif isinstance(kind, types.BaseTuple):
        [_describe_type(item, add, seen) for item in kind]
    elif isinstance(kind, types.Array):
        _describe_type(kind.dtype, add, seen)
    elif not isinstance(kind, (types.Number, types.Boolean, types.NoneType)):
        raise NotDescribed(kind.name)


@cache
def _environment(machine):
    """Digest of what all kernels share: versions, CPU, compiler settings, and this package's own lowering."""
    here = Path(__file__).parent
    parts = [numba.__version__, llvmlite.__version__, np.__version__, sys.version, repr(machine),
             repr([getattr(config, name, None) for name in _SETTINGS]), repr(getattr(config, "USING_SVML", None))]
    digest = hashlib.sha256("\n".join(parts).encode())
    for name in ("_jit.py", "_compile_cache.py"):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------- a dispatcher's cache


class DiskCache(_Cache):
    """What numba asks of a dispatcher's cache: `load_overload`, `save_overload`."""

    def __init__(self, dispatcher):
        self._dispatcher = dispatcher
        self._enabled = True

    @property
    def cache_path(self):
        return None if folder() is None else str(folder())

    def enable(self):
        self._enabled = True

    def disable(self):
        self._enabled = False

    def flush(self):
        """Nothing to do: a file is right for ever."""

    def load_overload(self, sig, target_context):
        if not self._enabled or folder() is None:
            return None
        rtsys.initialize(target_context)
        path, models = self._place(sig, target_context)
        data = path and _read(path)
        if not data:
            return announce()
        try:
            return CompileResult._rebuild(target_context, *_Unpickler(io.BytesIO(data), models).load())
        except Exception as error:          # of whatever kind: what cannot be loaded is compiled
            logger.debug("Compiled code of %s not loaded: %r", path, error)
            return None

    def save_overload(self, sig, data):
        if not self._enabled or folder() is None or data.library.has_dynamic_globals or data.lifted:
            return
        path, models = self._place(sig, data.target_context)
        if path is None:
            return
        buffer = io.BytesIO()
        try:
            _Pickler(buffer, models).dump(data._reduce())
            _write(path, buffer.getvalue())
            prune(folder())
        except Exception as error:          # no permission, no space, an object that cannot be pickled
            logger.debug("Compiled code of %s not saved: %r", path, error)

    def _place(self, sig, target_context):
        """The file of a signature (None: cannot be told apart), and the model types that stand in it."""
        digest, seen = hashlib.sha256(), {}

        def add(text):
            digest.update(text.encode(errors="surrogatepass") + b"\0")

        try:
            kinds, result = normalize_signature(sig)
            if result is not None:
                raise NotDescribed("a return type")
            describe(self._dispatcher, add, seen)
            for kind in kinds:
                _describe_type(kind, add, seen)
            home = folder() / _environment(target_context.codegen().magic_tuple())
        except (NotDescribed, OSError, ValueError) as error:
            logger.debug("Compiled code of %s not kept: %r", self._dispatcher.__qualname__, error)
            return None, ()
        name = "".join(c if c.isalnum() else "_" for c in self._dispatcher.__qualname__)
        models = [kind for kind in kinds if hasattr(kind, "formulas")]
        return home / f"{name.strip('_')[:40]}-{digest.hexdigest()[:32]}", models


class _Pickler(NumbaPickler):
    """Model types by their place in the signature: loaded code belongs to the classes of the process that asks."""

    def __init__(self, file, models):
        super().__init__(file, protocol=5)
        self._models = models

    def persistent_id(self, value):
        return self._models.index(value) if isinstance(value, types.Type) and value in self._models else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, models):
        super().__init__(file)
        self._models = models

    def persistent_load(self, place):
        return self._models[place]


# ---------------------------------------------------------------- files


def _read(path):
    """The content of a file, or None where it is absent or damaged."""
    try:
        data = path.read_bytes()
        if time.time() - path.stat().st_mtime > DAY:
            os.utime(path)                                    # files in use stay young
    except OSError:
        return None
    return data[32:] if data[:32] == hashlib.sha256(data[32:]).digest() else None


def _write(path, data):
    """Write beside and rename: readers see a whole file or none, and of two writers the last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix="writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


_pruned = set()


def prune(root):
    """Delete, once a process, files unused for a month, and beyond a quarter of a gigabyte the longest unused ones.

    What another process wrote within the hour stays. A file deleted beside a reader is compiled again.
    """
    if root in _pruned:
        return
    _pruned.add(root)
    now, total = time.time(), 0
    files = [(entry.stat(), entry) for entry in root.glob("*/*")]
    for state, path in sorted(files, key=lambda f: -f[0].st_mtime):
        age, total = now - state.st_mtime, total + state.st_size
        stale = age > UNUSED_DAYS * DAY or path.name.startswith("writing-") or total > MOST_BYTES
        if stale and age > HOUR:
            path.unlink(missing_ok=True)


@cache
def announce():
    """Say once that this process compiles; on the screen only where somebody sits before it."""
    text = "compiling kernels, once per installation (about 10 s a model)"
    logger.info(text)
    interactive = hasattr(builtins, "__IPYTHON__") or (sys.stderr is not None and sys.stderr.isatty())
    if interactive and multiprocessing.parent_process() is None:
        print(f"daskglm_rep: {text} ...", file=sys.stderr, flush=True)


def keep(dispatcher):
    """Give a dispatcher its cache on disk."""
    if isinstance(dispatcher, Dispatcher):                    # NUMBA_DISABLE_JIT hands the function back
        dispatcher._cache = DiskCache(dispatcher)
    return dispatcher


# Symbols carry the number of the function in its process: processes that count from the same one would define the
# same symbol twice with different code, and the first loaded would win.
FunctionIdentity._unique_ids = itertools.count(int.from_bytes(os.urandom(6), "little"))
