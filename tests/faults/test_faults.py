"""The verbs under faults of the system, at random but repeatable places.

`RECSYS_FAULTS=200` makes it so many; `python -m tests.faults 200` prints each of them.
"""

import os
import subprocess
import sys

FAULTS = os.environ.get("RECSYS_FAULTS", "2")


def test_whatever_the_system_does_no_verb_shows_a_trace_or_leaves_anything_half_written():
    """A full disk, no permission, a kill, a file for a folder; then the same command again.

    Neither the fault nor what it has left changes what the command makes in the end.
    """
    result = subprocess.run(
        [sys.executable, "-m", "tests.faults", FAULTS],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ok seed") == int(FAULTS)
