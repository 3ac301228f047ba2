"""A digest's text of all that numba's compiler reads of a function, so that equal texts mean equal machine code.

The text follows the live objects, not their files: bytecode, constants, defaults, closures, the globals read and,
through them, every function called. An edit, a changed constant and a class redefined in a notebook all tell
themselves. What cannot be followed exactly is refused.
"""

import inspect
import types as python

import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic

PACKAGE = __name__.partition(".")[0]

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_NAMED = (type, python.FunctionType, python.BuiltinFunctionType, python.ModuleType, np.ufunc)
_VERSIONED = ("builtins", "math", "cmath", "operator", "numpy", "numba", "llvmlite")      # known by their version
_SHAPE = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR          # numba clears others to trace


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
    if type(value) in _PLAIN:
        return add(f"{type(value).__name__} {value!r}")
    if type(value) in (tuple, list, set, frozenset, dict):
        items = value.items() if type(value) is dict else value
        items = items if type(value) in (tuple, list) else sorted(items, key=repr)
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
        if called and value.signatures and value.py_func.__module__.partition(".")[0] != PACKAGE:
            raise NotDescribed(f"{value!r} was compiled before: what it read then is not seen now")
        describe((value.targetoptions, value.locals), add, seen)
        return _describe_function(value.py_func, add, seen)
    if isinstance(value, _Intrinsic):
        if value._defn.__module__ == f"{PACKAGE}._jit":          # the cache keys this file whole, with what they call
            return add(f"intrinsic {value._defn.__qualname__}")
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


def describe_type(kind, add, seen):
    """A type of a signature; a model's type tells its formulas."""
    add(f"type {kind.name}")
    if hasattr(kind, "formulas"):
        for name, method in kind.formulas():
            add(f"formula {name}")
            describe(method, add, seen)
    elif isinstance(kind, (types.Tuple, types.UniTuple)):
        [describe_type(item, add, seen) for item in kind]
    elif isinstance(kind, types.Array):
        describe_type(kind.dtype, add, seen)
    elif not isinstance(kind, (types.Number, types.Boolean, types.NoneType)):
        raise NotDescribed(kind.name)
