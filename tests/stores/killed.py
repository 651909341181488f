"""A process that looks at a store, continues a push, and is killed within the next one.

    python -m tests.stores.killed TARGET NEXT MOMENT LOG BUNDLE...

It first checks what the alias leads to and completes the push of the last BUNDLE, and prints what
it found as one line of JSON. Then it pushes NEXT and kills itself at MOMENT: `add:2:after`,
`switch:1:before`, or `time:0.05` (seconds after the first block was acknowledged). LOG gets the
rows acknowledged so far.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import recsys.stores.plan

recsys.stores.plan.BATCH = 20  # before the stores read it

from recsys.recipes.bundles.push import push  # noqa: E402
from recsys.retrieval.bundle.loading import load_bundle  # noqa: E402
from recsys.stores.checking import check_store  # noqa: E402
from recsys.stores.plan import make_plan  # noqa: E402
from recsys.stores.store import STORES, Version, open_store  # noqa: E402


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def found_in(target, bundles):
    """What the alias leads to, and whether its lists are those of its bundle."""
    store = open_store(target, "items")
    current = store.current()
    told = {"current": current, "holds": True}
    for bundle in map(load_bundle, bundles):
        plan = make_plan(bundle)
        if current is not None and current.endswith(plan.digest):
            checked = check_store(store, Version(current, plan), bundle, 30)
            told |= {"bundle": bundle.folder.parent.name, "holds": checked.identical == 30}
    store.close()
    return told


def arm(kind, moment, log):
    step, number, when = (*moment.split(":"), "")[:3]
    calls = dict.fromkeys(("add", "finish", "switch"), 0)
    for name in calls:
        setattr(kind, name, armed(getattr(kind, name), name, calls, (step, number, when), log))


def armed(method, name, calls, moment, log):
    step, number, when = moment

    def call(self, version, *rest):
        calls[name] += 1
        now = step == name and int(number) == calls[name]
        if now and when == "before":
            die()
        result = method(self, version, *rest)
        if name == "add":
            written = log.with_suffix(".new")  # the kill may come in between
            written.write_text(str(rest[0].lo + len(rest[0].items)))
            written.replace(log)
            if step == "time" and calls[name] == 1:
                threading.Timer(float(number), die).start()
        if now and when == "after":
            die()
        return result

    return call


def main(target, following, moment, log, *bundles):
    told = found_in(target, bundles)
    if bundles:
        done = push(bundles[-1], target, check=30)
        told |= {"written": done.written, "of": done.num_items, "version": done.version}
        told["same"] = done.checked.identical == 30
    print(json.dumps(told), flush=True)
    if moment != "none":
        arm(STORES.find(target.partition(":")[0]), moment, Path(log))
        push(following, target, check=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
