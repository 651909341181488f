"""Sessions of onnxruntime, which run exported networks without torch."""

from __future__ import annotations

from typing import Any

from recsys.extras import extra


def open_session(model: str | bytes, *, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU; `threads` 0: all cores.

    Raises:
        InstallationError: onnxruntime is missing.
    """
    with extra("serve"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait for the next call would otherwise take whole cores from what comes between.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
