"""Check of installed packages against the requirements of the core and of each extra."""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement

from recsys.doctor.finding import Finding, Lookup
from recsys.extras import EXTRAS


def core_findings(lookup: Lookup) -> list[Finding]:
    """One finding for each package of the core."""
    return [_finding(need, lookup) for need in _requirements("")]


def extra_findings(lookup: Lookup) -> list[Finding]:
    """One finding for each extra: what of it is installed, what is missing or of another version.

    An extra of which nothing is installed is absent, which is no fault: the line installs it. So
    is one that lacks a package.
    """
    return [_extra(name, lookup) for name in EXTRAS]


def _extra(name: str, lookup: Lookup) -> Finding:
    parts = [_finding(need, lookup) for need in _requirements(name)]
    lacking = [part.name for part in parts if lookup(part.name) is None]
    purpose, line = EXTRAS[name].purpose, f"pip install 'recsys[{name}]'"
    if lacking or not parts:  # none at all: what it needs is built for another system
        told = f"missing: {', '.join(lacking)}" if parts else "not built for this system"
        return Finding(name, told, purpose, True, line if parts else "", absent=True)
    if wrong := [part for part in parts if not part.ok]:
        told = ", ".join(f"{part.name} {part.found} is not {part.wanted}" for part in wrong)
        return Finding(name, told, purpose, False, line)
    return Finding(name, "installed", purpose, True)


def _finding(need: Requirement, lookup: Lookup) -> Finding:
    found = lookup(need.name)
    ok = found is not None and need.specifier.contains(found, prereleases=True)
    return Finding(
        need.name,
        found or "not installed",
        str(need.specifier) or "any",
        ok,
        "" if ok else f"pip install '{need.name}{need.specifier}'",
    )


def _requirements(extra: str) -> list[Requirement]:
    """What the core (`""`) or an extra asks for on this system, with the extras it names."""
    found: dict[str, Requirement] = {}
    for line in requires("recsys") or []:
        need = Requirement(line)
        in_core, in_extra = (_holds(need, name) for name in ("", extra))
        if not in_extra or (extra and in_core):
            continue
        if need.name == "recsys":
            for name in sorted(need.extras):
                found |= {inner.name: inner for inner in _requirements(name)}
        else:
            found[need.name] = need
    return list(found.values())


def _holds(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})
