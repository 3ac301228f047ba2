"""Scalar models in jitted code, one build a kernel and model, elementary functions that vectorise.

Numba's internals are touched here and in the cache of what it compiles (`_compile_cache`, `_fingerprint`) alone.
An implementation registered for numba (`overload`, `lower`, an intrinsic) belongs here: the cache keys this file whole.
"""

import dataclasses
import inspect
from functools import cache

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import NativeValue, intrinsic, models, overload_method, register_model, typeof_impl, unbox
from numba.np.arrayobj import populate_array

from daskglm_rep._compile_cache import keep

STRICT = {"contract"}                                  # keeps NaN, inf and the order of additions
SUMS = {"contract", "nsz", "reassoc", "arcp"}          # for accumulation loops: NaN and inf still propagate
INLINED = {"fastmath": STRICT, "error_model": "numpy", "forceinline": True}       # a loop with a call is not vectorised


def kernel(function):
    """Compile for dask's threads: the GIL is released, and no parallel=True, which aborts under a thread pool."""
    return keep(njit(nogil=True, fastmath=SUMS, error_model="numpy")(function))


def formula(function):
    """Compile a scalar formula or a loop of them: additions stay in order, divisions by zero give inf."""
    return keep(njit(nogil=True, fastmath=STRICT, error_model="numpy")(function))


# ---------------------------------------------------------------- frozen dataclasses of floats as numba types


class ScalarModel:
    """Marker base: subclasses are frozen dataclasses of floats whose public methods are scalar formulas.

    The same method serves Python and jitted code. A new parameter value compiles nothing: fields are data.
    """

    @property
    def _numba_type_(self):
        return _type_of_class(type(self))


class _ScalarModelType(types.Type):
    def __init__(self, cls):
        self.cls = cls
        self.fields = tuple(f.name for f in dataclasses.fields(cls))
        super().__init__(name=f"{cls.__module__}.{cls.__qualname__}")

    @property
    def key(self):                  # the class object, not its name: a class redefined in a notebook is a new type
        return self.cls

    def formulas(self):
        """Names and methods that jitted code can call."""
        return [(name, getattr(self.cls, name)) for name in sorted(_exposed) if hasattr(self.cls, name)]


@cache
def _type_of_class(cls):
    return _ScalarModelType(cls)


@typeof_impl.register(ScalarModel)
def _typeof(value, context):
    return _type_of_class(type(value))


@register_model(_ScalarModelType)
class _Layout(models.StructModel):
    def __init__(self, manager, typ):
        super().__init__(manager, typ, [(name, types.float64) for name in typ.fields])


@unbox(_ScalarModelType)
def _unbox(typ, obj, c):
    struct = cgutils.create_struct_proxy(typ)(c.context, c.builder)
    for name in typ.fields:
        field = c.pyapi.object_getattr_string(obj, name)
        setattr(struct, name, c.pyapi.float_as_double(field))
        c.pyapi.decref(field)
    return NativeValue(struct._getvalue(), is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@infer_getattr
class _FieldType(AttributeTemplate):
    key = _ScalarModelType

    def generic_resolve(self, typ, name):
        return types.float64 if name in typ.fields else None


@lower_getattr_generic(_ScalarModelType)
def _field(context, builder, typ, value, name):
    return getattr(cgutils.create_struct_proxy(typ)(context, builder, value=value), name)


_exposed = set()


def expose(cls):
    """Class decorator for an interface: each of its public methods becomes callable from jitted code."""
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if name.startswith("_"):
            continue
        _exposed.add(name)
        args = ", ".join(inspect.signature(method).parameters)
        typing = eval(f"lambda {args}: getattr(self.cls, {name!r})")
        overload_method(_ScalarModelType, name, jit_options=INLINED)(typing)
    return cls


# ---------------------------------------------------------------- one compilation per kernel and model class

FLOATS = types.Array(types.float64, 1, "C", readonly=True)
STRIDED = types.Array(types.float64, 1, "A", readonly=True)          # for kernels that copy a strip of it themselves
MATRIX = types.Array(types.float64, 2, "A", readonly=True)
INDEX = types.Array(types.int64, 1, "C", readonly=True)
OUT = types.float64[::1]
OUT2 = types.float64[:, ::1]


_builds = {}


def call(function, arguments, *values):
    """Call a kernel whose leading values are scalar models, the rest of fixed types `arguments`.

    One build serves every layout: matrices come as they are, strided vectors (a column, one weight for all rows) are
    copied, because loops over them vectorise only where they are contiguous (3.5 against 17 ns a row of `glm_rows`).
    """
    models = values[:len(values) - len(arguments)]
    key = (function, *map(type, models))          # a kernel's other arguments are always of the same types
    if key not in _builds:
        with global_compiler_lock:                # the other threads of a pool wait instead of compiling it as well
            if key not in _builds:
                _builds[key] = _build(function, (*map(numba.typeof, models), *arguments))
    build, vectors = _builds[key]
    if all(values[i].flags.c_contiguous for i in vectors):
        return build(*values)
    return build(*[np.ascontiguousarray(v) if i in vectors else v for i, v in enumerate(values)])


def _build(function, signature):
    """A dispatcher of one signature, as numba's own would compile anew for each layout; where its input vectors are."""
    build = keep(type(function)(function.py_func, targetoptions=function.targetoptions))
    build.compile(signature)
    build.disable_compile()
    return build, [i for i, kind in enumerate(signature) if kind in (FLOATS, INDEX)]


# ---------------------------------------------------------------- rows and columns that lie whole in memory


def _whole(X, i, axis):
    """Row or column i of a matrix, by its axis, as a contiguous array: the type and code of an intrinsic."""
    kind = types.Array(types.float64, 1, "C", readonly=True)

    def codegen(context, builder, signature, args):
        matrix, line = context.make_array(X)(context, builder, args[0]), context.make_array(kind)(context, builder)
        stride = cgutils.unpack_tuple(builder, matrix.strides, 2)[axis]
        size = cgutils.unpack_tuple(builder, matrix.shape, 2)[1 - axis]
        data = builder.bitcast(cgutils.pointer_add(builder, matrix.data, builder.mul(stride, args[1])), line.data.type)
        eight = size.type(8)
        populate_array(line, data=data, shape=[size], strides=[eight], itemsize=eight, meminfo=None)
        return line._getvalue()

    return kind(X, i), codegen

AHEAD = 16384          # bytes: more than is read while memory answers, less than the caches beside a core hold


@intrinsic
def whole_row(typingctx, X, i):
    """Row i of a matrix of any strides as a contiguous array, which loops vectorise over."""
    return _whole(X, i, 0)


@intrinsic
def whole_column(typingctx, X, j):
    """Column j of one in column order, likewise."""
    return _whole(X, j, 1)


def _prefetch(builder, pointer):
    """Ask for the number `AHEAD` of a pointer to be brought to the second cache; beyond an array nothing happens."""
    text, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    function = builder.module.declare_intrinsic("llvm.prefetch", [text], ir.FunctionType(
        ir.VoidType(), [text, number, number, number]))
    place = builder.gep(builder.bitcast(pointer, text), [ir.Constant(ir.IntType(64), AHEAD)])
    builder.call(function, [place, *(ir.Constant(number, value) for value in (0, 2, 1))])          # read, L2, data


@intrinsic
def load_quad(typingctx, X, i, j, Z, k, l):
    """Z[k:k + 4, l:l + 4] = X[i:i + 4, j:j + 4].T for rows that lie whole in memory; bounds are the caller's business.

    Loads and shuffles of four numbers: LLVM turns the loop into single ones, six times as many. What lies `AHEAD` is
    asked for on the way: the processor's own guess stops while a strip is computed with (15 against 12 ns a row).
    """

    def codegen(context, builder, signature, args):
        quad = ir.VectorType(ir.DoubleType(), 4)

        def address(typ, value, row, column, r):
            array = context.make_array(typ)(context, builder, value)
            stride = cgutils.unpack_tuple(builder, array.strides, 2)[0]
            at = builder.add(builder.mul(stride, builder.add(row, row.type(r))), builder.mul(column, column.type(8)))
            return builder.bitcast(cgutils.pointer_add(builder, array.data, at), quad.as_pointer())

        def shuffle(a, b, *places):
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), 4), places))

        pointers = [address(X, args[0], args[1], args[2], r) for r in range(4)]
        a, b, c, d = [builder.load(pointer, align=8) for pointer in pointers]
        for pointer in pointers:
            _prefetch(builder, pointer)
        upper, lower = [[shuffle(*pair, 0, 4, 2, 6), shuffle(*pair, 1, 5, 3, 7)] for pair in ((a, b), (c, d))]
        columns = [shuffle(upper[r % 2], lower[r % 2], *((0, 1, 4, 5) if r < 2 else (2, 3, 6, 7))) for r in range(4)]
        for r, column in enumerate(columns):
            builder.store(column, address(Z, args[3], args[4], args[5], r), align=8)
        return context.get_dummy_value()

    return types.void(X, i, j, Z, k, l), codegen


# ---------------------------------------------------------------- files


@intrinsic
def pread(typingctx, descriptor, out, position):
    """Set the contiguous bytes `out` from a position of an open file on; returns how many there were, or -1."""

    def codegen(context, builder, signature, args):
        array, word = context.make_array(out)(context, builder, args[1]), ir.IntType(64)
        text = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(word, [ir.IntType(32), text, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "pread")
        return builder.call(function, [args[0], builder.bitcast(array.data, text), array.nitems, args[2]])

    return types.int64(types.int32, out, types.int64), codegen


# ---------------------------------------------------------------- minima and maxima that vectorise


def _nearer(builder, sign, a, b):
    return builder.select(builder.fcmp_ordered(sign, a, b, flags=NO_NAN), a, b, flags=NO_NAN)


NO_NAN = ("nnan", "nsz")          # on the choice too, where numba has none: LLVM sees no reduction without


@intrinsic
def least(typingctx, a, b):
    """The smaller of two numbers; arbitrary where one is NaN."""
    return types.float64(types.float64, types.float64), lambda c, builder, s, args: _nearer(builder, "<", *args)


@intrinsic
def greatest(typingctx, a, b):
    """The greater one."""
    return types.float64(types.float64, types.float64), lambda c, builder, s, args: _nearer(builder, ">", *args)


# ---------------------------------------------------------------- exp and log without a branch or a libm call


@intrinsic
def _float_from_bits(typingctx, bits):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), codegen


@intrinsic
def _bits_of_float(typingctx, value):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), codegen


@formula          # never inline="always": the caller's reassoc would undo the rounding trick
def exp(x):
    """e^x, max relative error 2.2e-16; saturates at e^-708 and e^709; NaN stays NaN.

    Cody-Waite reduction, degree-12 polynomial, exponent by bit cast: loops of it vectorise (1.6 ns an element where
    the libm call takes 16).
    """
    z = -708.0 if x < -708.0 else x
    z = 709.0 if z > 709.0 else z
    shifted = z * 1.4426950408889634 + 6755399441055744.0          # round to nearest by 1.5 * 2^52
    whole = shifted - 6755399441055744.0
    r = z - whole * 6.93147180369123816490e-01                       # ln 2 in two parts
    r = r - whole * 1.90821492927058770002e-10
    p = 1 / 479001600.0
    for c in (1 / 39916800.0, 1 / 3628800.0, 1 / 362880.0, 1 / 40320.0, 1 / 5040.0, 1 / 720.0, 1 / 120.0, 1 / 24.0,
              1 / 6.0, 0.5, 1.0, 1.0):
        p = p * r + c
    return p * _float_from_bits((_bits_of_float(shifted) + 1023) << 52)


@formula
def _exponent(bits):
    """k of x = 2^k m with m in [sqrt(1/2), sqrt(2)), from the bits of x."""
    return (bits - 0x3FE6A09E667F3BCD) >> 52


@formula
def _log_tail(s):
    """(2 atanh(s) - 2 s) / s for |s| <= 0.1716: what ln((1 + s) / (1 - s)) has beyond its linear term, over s."""
    z = s * s
    return z * (6.666666666666735130e-01 + z * (3.999999999940941908e-01 + z * (2.857142874366239149e-01 + z * (
        2.222219843214978396e-01 + z * (1.818357216161805012e-01 + z * (1.531383769920937332e-01
                                                                       + z * 1.479819860511658591e-01))))))


@formula
def log(x):
    """ln x for normal positive x to 1 ulp or so; -inf at (sub)normal zero, NaN below zero and at NaN, inf at inf."""
    bits = _bits_of_float(x)
    k = _exponent(bits)                                              # ln m = 2 atanh(s), s = (m - 1) / (m + 1)
    f = _float_from_bits(bits - (k << 52)) - 1.0
    s = f / (2.0 + f)
    h = 0.5 * f * f
    value = k * 6.93147180369123816490e-01 - ((h - (s * (h + _log_tail(s)) + k * 1.90821492927058770002e-10)) - f)
    value = -float("inf") if x < 2.2250738585072014e-308 else value
    value = x if x == float("inf") else value
    return value if x >= 0.0 else float("nan")


@formula
def xlogy(x, y):
    """x ln y, and 0 where x = 0."""
    return 0.0 if x == 0.0 else x * log(y)


@formula
def relative_entropy(a, b, difference):
    """a ln(a / b) - (a - b) >= 0 for a >= 0, b > 0, to a few ulp also where a is close to b; `difference` is a - b.

    With s = (a - b) / (a + b) it is (a - b) s + a (2 atanh(s) - 2 s): near a = b two terms of which the first, the
    square, rules. The logarithm's reduction a / b = 2^k m says when: k = 0; the same polynomial serves both cases.
    """
    ratio = a / b
    bits = _bits_of_float(ratio)
    k = _exponent(bits)
    m = _float_from_bits(bits - (k << 52))
    s = (difference if k == 0 else m - 1.0) / (a + b if k == 0 else m + 1.0)
    tail = s * _log_tail(s)
    far = a * (k * 6.931471805599453094e-01 + (2.0 * s + tail)) - difference
    value = difference * s + a * tail if k == 0 else far
    value = ratio if ratio == float("inf") else value
    return value if ratio > 2.2250738585072014e-308 else -difference


@formula
def exp_excess(x):
    """e^x - 1 - x for |x| <= 0.35, by its Taylor series."""
    p = 0.0
    for c in (1 / 1307674368000.0, 1 / 87178291200.0, 1 / 6227020800.0, 1 / 479001600.0, 1 / 39916800.0, 1 / 3628800.0,
              1 / 362880.0, 1 / 40320.0, 1 / 5040.0, 1 / 720.0, 1 / 120.0, 1 / 24.0, 1 / 6.0, 0.5):
        p = p * x + c
    return p * x * x
