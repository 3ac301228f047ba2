"""Compiled kernels on disk: one file a kernel and signature, named by everything that its machine code depends on.

The name holds a digest of the code with all that it reads (`_fingerprint`), of the versions, the compiler's settings
and the CPU. So no file is ever out of date; an edit makes files that nobody asks for any more, deleted by their age.
Files carry a checksum, are written beside and renamed into place; what cannot be read, written or described exactly is
compiled as if there were no cache.
"""

import builtins
import contextlib
import hashlib
import io
import itertools
import logging
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import uuid
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
from numba.core.runtime import rtsys
from numba.core.serialize import NumbaPickler
from numba.core.sigutils import normalize_signature
from numba.cpython import hashing          # noqa: F401, names a symbol that loaded code may ask for
from numba.misc.appdirs import AppDirs

from daskglm_rep._fingerprint import NotDescribed, describe, describe_type

VARIABLE = "DASKGLM_REP_CACHE"
UNUSED_DAYS, MOST_BYTES = 30, 2 ** 28
DAY, HOUR = 86400.0, 3600.0
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "EXTEND_VARIABLE_LIFETIMES",
             "ENABLE_PROFILING", "USING_SVML", "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS", "DEBUG_NRT")

logger = logging.getLogger("daskglm_rep")


# ---------------------------------------------------------------- where


@cache
def folder():
    """The folder of the cache, or None: `DASKGLM_REP_CACHE` ("off" or "0": none), the user's, a temporary one."""
    asked = os.environ.get(VARIABLE, "")
    if asked.lower() in ("off", "0"):
        return None
    if asked:
        return Path(os.path.expanduser(asked)).absolute()
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


@cache
def _environment(machine, settings):
    """Digest of what all kernels share: versions, CPU, compiler settings, and how this package lowers its models."""
    parts = [numba.__version__, llvmlite.__version__, np.__version__, sys.version, repr(machine), settings]
    digest = hashlib.sha256("\n".join(parts).encode())
    for name in ("_jit.py", "_compile_cache.py", "_fingerprint.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
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
        if path is None:
            return None
        data = _read(path)
        if data is None:
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
                describe_type(kind, add, seen)
            settings = repr([str(getattr(config, name, None)) for name in _SETTINGS])
            home = folder() / _environment(target_context.codegen().magic_tuple(), settings)
        except (NotDescribed, RecursionError, OSError, ValueError) as error:
            logger.debug("Compiled code of %s not kept: %r", self._dispatcher.__qualname__, error)
            return None, ()
        name = "".join(c if c.isalnum() else "_" for c in self._dispatcher.__qualname__)
        models = [kind for kind in kinds if hasattr(kind, "formulas")]
        return home / f"{name.strip('_')[:40]}-{digest.hexdigest()[:32]}.kernel", models


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
        data, age = path.read_bytes(), time.time() - path.stat().st_mtime
    except OSError:
        return None
    if age > DAY:
        with contextlib.suppress(OSError):
            os.utime(path)                                    # files in use stay young
    return data[32:] if data[:32] == hashlib.sha256(data[32:]).digest() else None


def _write(path, data):
    """Write beside and rename: readers see a whole file or none, and of two writers the last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{uuid.uuid4().hex}.part")
    try:
        with open(beside, "xb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@cache
def prune(root):
    """Delete, once a process, files unused for a month, and beyond a quarter of a gigabyte the longest unused ones.

    What another process wrote within the hour stays; a file deleted before its reader is compiled again. Only files
    named as the cache names its own are looked at: the folder may be any.
    """
    home, now, total = "[0-9a-f]" * 16, time.time(), 0
    files = [(path, path.stat()) for path in root.glob(f"{home}/*.kernel")]
    files += [(path, path.stat()) for path in root.glob(f"{home}/*.part")]
    for path, state in sorted(files, key=lambda file: -file[1].st_mtime):
        total += state.st_size
        stale = now - state.st_mtime > UNUSED_DAYS * DAY or path.suffix == ".part" or total > MOST_BYTES
        if stale and now - state.st_mtime > HOUR:
            path.unlink(missing_ok=True)
    for folder_ in root.glob(home):
        if not any(folder_.iterdir()):
            folder_.rmdir()


@cache
def announce():
    """Say once that this process compiles; on the screen only where somebody sits before it."""
    text = "compiling kernels, once per installation (about 5 s a model)"
    logger.info(text)
    interactive = hasattr(builtins, "__IPYTHON__") or (sys.stderr is not None and sys.stderr.isatty())
    if interactive and multiprocessing.parent_process() is None:
        print(f"daskglm_rep: {text} ...", file=sys.stderr, flush=True)


def keep(dispatcher):
    """Give a dispatcher its cache on disk."""
    if isinstance(dispatcher, Dispatcher):                    # NUMBA_DISABLE_JIT hands the function back
        dispatcher._cache = DiskCache(dispatcher)
    return dispatcher


def _number_from_anywhere():
    """Symbols carry the number of their function in its process, counted from 1 by numba.

    Of two files that define one symbol with different code the first loaded would win, so each process counts from
    another number.
    """
    FunctionIdentity._unique_ids = itertools.count(int.from_bytes(os.urandom(6), "little"))


_number_from_anywhere()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_number_from_anywhere)
