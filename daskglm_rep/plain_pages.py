"""Columns of Parquet files whose bytes are the numbers: uncompressed, plain, without gaps.

Such a page is an array in a file. Read to where it belongs, it costs the system's copy and no other: 1 ns a number,
where Arrow takes 3 to read it apart and one more is spent to copy it.
"""

import os
import sys

import numpy as np
import pyarrow as pa

from daskglm_rep._jit import call, kernel, pread, types

DATA_PAGE, DATA_PAGE_V2, PLAIN, RLE = 0, 3, 0, 3          # codes of the format
PHYSICAL = {"f8": "DOUBLE", "f4": "FLOAT", "i8": "INT64", "u8": "INT64", "i4": "INT32", "u4": "INT32"}
HEADER = 512          # bytes that hold the header of a page
CODED, SHORT = -1, -2
SUPPORTED = hasattr(os, "pread") and sys.byteorder == "little" and sys.maxsize > 2 ** 32

BYTES = types.uint8[::1]
_COLUMN = (types.int32, types.int64, types.int64, types.int64, types.boolean, BYTES)


class PlainFile:
    """A file that a `pyarrow.parquet.ParquetFile` has open too, for columns that need no decoding.

    Parameters
    ----------
    path : str
    """

    def __init__(self, path):
        self.path, self.descriptor = path, os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.close(self.descriptor)

    def is_at(self, path):
        """Whether a path still leads here: files may be replaced."""
        return os.path.samestat(os.fstat(self.descriptor), os.stat(path))

    def fill(self, file, row_groups, at, kind, out):
        """Set `out` to a column of some row groups, and say whether it is plain; if not, `out` is anything.

        Parameters
        ----------
        file : pyarrow.parquet.ParquetFile
        at : int
            The column's number.
        kind : pyarrow.DataType
        out : (m,) contiguous array

        Raises
        ------
        OSError
            The file ends early, or its storage fails.
        """
        dtype, column = stored_type(kind), file.schema.column(at)
        if not SUPPORTED or dtype is None or file.metadata.num_columns != len(file.schema_arrow) or (
                column.max_repetition_level or column.max_definition_level > 1):          # as nested columns have them
            return False
        start = 0
        for chunk in (file.metadata.row_group(i).column(at) for i in row_groups):
            own = out[start:start + chunk.num_values]
            if not _is_plain(chunk, dtype) or not self._fill(chunk, dtype, column.max_definition_level == 1, own):
                return False
            start += chunk.num_values
        return start == out.size

    def _fill(self, chunk, dtype, levels, out):
        numbers = out if out.dtype == dtype else np.empty(out.size, dtype)
        first = chunk.data_page_offset
        outcome = call(_read_column, _COLUMN, self.descriptor, first, first + chunk.total_compressed_size,
                       dtype.itemsize, levels, numbers.view(np.uint8))
        if outcome == SHORT:
            raise OSError(f"{self.path} cannot be read to the end of a page")
        if numbers is not out:
            out[:] = numbers
        return outcome != CODED


def stored_type(kind):
    """The numpy type of an Arrow type's numbers as Parquet stores them plainly, or None."""
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    dtype = np.dtype(kind.to_pandas_dtype())
    name = f"{dtype.kind}{dtype.itemsize if dtype.kind == 'f' else max(dtype.itemsize, 4)}"
    return np.dtype(name) if name in PHYSICAL else None


def _is_plain(chunk, dtype):
    return (chunk.compression == "UNCOMPRESSED" and chunk.physical_type == PHYSICAL[dtype.str[1:]]
            and not chunk.has_dictionary_page and set(chunk.encodings) <= {"PLAIN", "RLE"} and not chunk.file_path)


@kernel
def _read_column(descriptor, position, end, itemsize, levels, out):
    """Fill `out` from the pages that lie between two positions; returns 0, `CODED` or `SHORT`.

    A page that holds fewer numbers than rows is shorter than its rows and the levels which tell what is missing.
    """
    head, fields, done = np.empty(HEADER, np.uint8), np.empty((9, 9), np.int64), 0
    while done < out.size:
        skip = _header(head[:max(0, pread(np.int32(descriptor), head, position))], fields)
        if skip == 0:
            return CODED
        size, kind = fields[0, 2], fields[0, 1]
        if kind == DATA_PAGE and fields[5, 2] == PLAIN and (fields[5, 3] == RLE or not levels):
            n, before = fields[5, 1] * itemsize, 0
            if levels:
                for i in range(4):
                    before |= np.int64(head[skip + i]) << 8 * i
                before += 4
        elif kind == DATA_PAGE_V2 and fields[8, 4] == PLAIN:
            n, before = fields[8, 1] * itemsize, fields[8, 5] + fields[8, 6]
        else:
            return CODED
        if size != n + before or fields[0, 3] != size or n <= 0 or before < 0 or done + n > out.size:
            return CODED
        position += skip + before
        last = done + n
        while done < last:
            count = pread(np.int32(descriptor), out[done:last], position)
            if count <= 0:
                return SHORT
            done += count
            position += count
    return 0 if position == end else CODED


@kernel
def _header(data, fields):
    """Integers of a page's header: fields[0, i] its own, fields[j, i] those of its struct j, else -1; and its length.

    It is a Thrift struct in the compact protocol. The length is 0 where the header is another or does not fit with
    four bytes behind it.
    """
    for i in range(fields.shape[0]):
        for j in range(fields.shape[1]):
            fields[i, j] = -1
    numbers, depth, at = np.zeros(4, np.int64), 0, 0
    while at + 4 < data.size:
        byte = np.int64(data[at])
        kind, step = byte & 15, byte >> 4
        at += 1
        if byte == 0:          # the end of a struct
            if depth == 0:
                return at
            depth -= 1
            continue
        numbers[depth] += step
        if step == 0 or numbers[depth] >= fields.shape[0]:
            return 0
        if kind == 12:          # a struct
            depth += 1
            if depth == numbers.size:
                return 0
            numbers[depth] = 0
        elif 4 <= kind <= 6 or kind == 8:          # an integer, or a string and its length
            value, shift, more = 0, 0, True
            while more:
                if at >= data.size or shift > 35:
                    return 0
                more = data[at] >= 128
                value |= (np.int64(data[at]) & 127) << shift
                shift += 7
                at += 1
            if kind == 8:
                at += value
            elif depth < 2:
                fields[numbers[0] if depth else 0, numbers[depth]] = (value >> 1) ^ -(value & 1)
        elif kind > 2:          # true and false have no bytes
            return 0
    return 0
