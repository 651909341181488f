"""The verb that checks the installation: doctor."""

from __future__ import annotations

import typer

from recsys.console import make_console


def doctor() -> None:
    """Checks the installed packages and extras, and prints the commands that fix problems."""
    from recsys.doctor import device_findings, diagnose, extra_findings, installed
    from recsys.doctor.printing import print_findings

    findings, extras = [*diagnose(), *device_findings()], extra_findings(installed)
    print_findings(findings, make_console(), extras)
    if not all(finding.ok for finding in (*findings, *extras)):
        raise typer.Exit(1)
