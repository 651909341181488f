"""Compiled code: everything that numba or LLVM compiles is here."""
