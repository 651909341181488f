"""Results files, and the pages whose figures come out of them."""

from recsys.reports.results.record import (
    DataName,
    Figure,
    Results,
    Step,
    read_results,
    write_results,
)

__all__ = ["DataName", "Figure", "Results", "Step", "read_results", "write_results"]
