"""Asks the Python Packaging Advisory Database about every release in constraints.txt, by pip-audit.

    python .ci/audit.py PIP_AUDIT [further options of pip-audit]

Ends with 1 where a release has a known vulnerability that is not in ACCEPTED. Where nobody could be asked, as without a
network, it says so and ends with 0, or with 1 where AUDIT=required is set: not asked is not the same as clean.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
ACCEPTED: dict[str, str] = {}
"""Id of a vulnerability -> why it does no harm here. One that is fixed by a newer release has no place in it."""
MOST_SEC = 300


def main() -> int:
    report, why = asked(sys.argv[1], sys.argv[2:])
    if report is None:
        print(f"audit: the dependencies were NOT audited: {why}", flush=True)
        return 1 if os.environ.get("AUDIT") == "required" else 0
    lines, found = told(report)
    print("\n".join(lines), flush=True)
    return 1 if found else 0


def asked(pip_audit: str, options: list[str]) -> tuple[dict[str, Any] | None, str]:
    """pip-audit's report; or None and why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        command = [pip_audit, "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip", "--format", "json"]
        command += ["--output", str(out), "--progress-spinner", "off", "--cache-dir", folder, *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SEC)
        except FileNotFoundError:
            return None, f"{pip_audit} is not there: could it not be installed?"
        except subprocess.TimeoutExpired:
            return None, f"no answer in {MOST_SEC} s"
        try:
            return json.loads(out.read_text(encoding="utf-8")), ""
        except (FileNotFoundError, ValueError):
            said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            return None, (said or [f"pip-audit ended with {done.returncode} and said nothing"])[-1][:300]


def told(report: dict[str, Any]) -> tuple[list[str], int]:
    """Lines for people, and how many vulnerabilities are not accepted."""
    lines, found, clean, skipped = [], 0, 0, []
    for one in report["dependencies"]:
        if "skip_reason" in one:
            skipped.append(one["name"])
            continue
        clean += not one["vulns"]
        for vulnerability in one["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no release yet"
            line = f"audit: {one['name']} {one['version']}: {vulnerability['id']}, fixed by {fixed}"
            reason = ACCEPTED.get(vulnerability["id"])
            found += reason is None
            lines.append(line if reason is None else f"{line}; accepted: {reason}")
    lines.append(f"audit: {clean} releases without a known vulnerability, {found} vulnerabilities to deal with")
    if skipped:
        lines.append(
            f"audit: not asked about, {len(skipped)} that no index knows by this version: {', '.join(skipped)}"
        )
    return lines, found


if __name__ == "__main__":
    sys.exit(main())
