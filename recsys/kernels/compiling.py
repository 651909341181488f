"""Compilation of functions, cached on disk under a key of their sources.

numba's own cache knows the file that a function stands in, but kernels are put together from the
pieces and constants of several: after a change in one of these the old kernel would go on. The key
here is the text of that file and of every file of the package that it imports at its top, and that
these import, with the versions of numba and llvmlite; numba adds the processor and the arguments.

The cache stands in `__pycache__` beside the source, or, where that cannot be written, in the user's
cache folder; NUMBA_CACHE_DIR names another one.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function for the types it is called with; it runs without Python's lock."""
    compiled: Any = numba.njit(nogil=True)(function)
    try:
        compiled._cache = _Cache(function)
    except RuntimeError as error:  # no folder to keep it in
        _tell(f"kernels are compiled anew in each process ({error}); name a folder that can be "
              "written in NUMBA_CACHE_DIR")  # fmt: skip
    return compiled


def stamp_of(module: str) -> str:
    """A hash of all that the kernels of a module are made of, but the processor."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for name in sorted(_made_of(module, set())):
        digest.update(b"\0".join([name.encode(), _source(name)]))
    return digest.hexdigest()


def _made_of(module: str, known: set[str]) -> set[str]:
    """Adds to `known` the module and what it imports of its own package."""
    if module not in known:
        known.add(module)
        for name in _imports(module):
            if name in sys.modules and name.partition(".")[0] == module.partition(".")[0]:
                _made_of(name, known)
    return known


@cache
def _source(module: str) -> bytes:
    """Read once, right when it is imported: it may change while the process runs."""
    file = getattr(sys.modules[module], "__file__", None)
    return Path(file).read_bytes() if file else b""


@cache
def _imports(module: str) -> tuple[str, ...]:
    return tuple(_imported(module))


def _imported(module: str) -> Iterator[str]:
    for node in ast.parse(_source(module)).body:
        if isinstance(node, ast.Import):
            yield from (part.name for part in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            found = resolve_name(relative, sys.modules[module].__package__)
            yield found
            yield from (f"{found}.{part.name}" for part in node.names)


class _Stamped:
    """The place of the cache; file names hold the hash of the sources, so versions stay apart."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        super().__init__(function, file)  # type: ignore[call-arg]
        self._stamp = stamp_of(function.__module__)

    def get_source_stamp(self) -> str:
        return self._stamp

    def get_disambiguator(self) -> str:
        return self._stamp[:16]


class _Named(_Stamped, UserProvidedCacheLocator):
    pass


class _Beside(_Stamped, InTreeCacheLocator):
    pass


class _OfUser(_Stamped, UserWideCacheLocator):
    pass


class _Place(CompileResultCacheImpl):
    _locator_classes = [_Named, _Beside, _OfUser]  # noqa: RUF012 - as numba declares it


class _Files(IndexDataCacheFile):
    """One index file and one data file for each key, named by the key.

    numba counts its files; two processes that compile for different types at once could then give
    one number to both, and one would run what was compiled for the other's types.
    """

    def load(self, key: Any) -> Any:
        try:
            return super().load(key)
        except Exception:  # half a file after a crash fails in many ways; it is compiled again
            return None

    def save(self, key: Any, data: Any) -> None:
        name = self._data_name_pattern.format(number=_number(key))
        self._save_data(name, data)
        try:
            known = self._load_index()
        except Exception:  # likewise
            known = {}
        self._save_index({**known, key: name})


class _Cache(FunctionCache):
    _impl_class = _Place

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        place = self._impl
        stamp = place.locator.get_source_stamp()
        self._cache_file = _Files(self.cache_path, place.filename_base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
            self._remove_older()
        except OSError as error:
            _tell(f"a compiled kernel was not kept for the next process: {error}")

    def _remove_older(self) -> None:
        own = self._impl.filename_base
        function, _, rest = own.rpartition("-")
        python = rest.rpartition(".")[2]
        for part in Path(self.cache_path).glob(f"{function}-*.{python}.*"):
            if not part.name.startswith(own):
                part.unlink(missing_ok=True)


def _number(key: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:6], "big")


@cache
def _tell(text: str) -> None:
    warnings.warn(text, stacklevel=2)
