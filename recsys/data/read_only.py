"""Read-only arrays, so that no function changes data that others read."""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)


def read_only(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """The same numbers, not to be written to; who owns `array` still may."""
    view = array.view()
    view.flags.writeable = False
    return view


def freeze_arrays(instance: Any, *names: str) -> None:
    """Makes those arrays of a frozen dataclass read-only, where there are any."""
    for name in names:
        array = getattr(instance, name)
        if array is not None:
            object.__setattr__(instance, name, read_only(array))
