"""Imported once by the server that forks the processes of these tests."""

import recsys.recipes.training.train
import recsys.tables.distributed.sharded  # noqa: F401
import tests.distributed.training

# The kernels are loaded from their cache at their first call: here, once for all processes.
tests.distributed.training.warm_up()
