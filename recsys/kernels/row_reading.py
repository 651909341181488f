"""Reading of single rows of a file by the system's pread.

Reading a mapped file costs a page fault, with 64 KiB of neighbours, for every row that was not
looked at of late: a step grows with the table even when the system holds all of it in memory. A
call costs less than 1 us whatever the size, and takes no memory of this process. (Not so for
writing: pwrite takes ten times as long as a write to a page that is mapped.)

Shape legend: R rows requested.
"""

from typing import Any

from numba import types

from recsys.kernels.compiling import kernel

_CALL = types.intp(types.intc, types.uintp, types.uintp, types.int64)
_pread: Any = types.ExternalFunction("pread", _CALL)


@kernel
def read_rows(file, rows, row_bytes, wanted, address):
    """Reads the first `wanted` bytes of each row, one after the other, to `address` in memory.

    Returns how many of the rows `[R]` int64 were read before the system refused one.
    """
    for n in range(len(rows)):
        if _pread(file, address + n * wanted, wanted, rows[n] * row_bytes) != wanted:
            return n
    return len(rows)
