"""The demo: posters whose ratings follow known effects, a whole study over them, and what came back of the effects."""

import sys
import time
from pathlib import Path

from seewhy.demo.posters import write_posters
from seewhy.demo.server import serve
from seewhy.demo.truth import Comparison, compare
from seewhy.progress import Reporter, format_seconds
from seewhy.steps import train_text
from seewhy.steps.items import gather
from seewhy.steps.order import run_study
from seewhy.steps.report import find_words
from seewhy.study import Study, load_study

STUDY = Path(__file__).parent / "posters.yaml"


def run_demo(folder: str, *, posters: int, seed: int, reporter: Reporter) -> Comparison:
    """Draws posters into `folder`, serves them on this machine, runs the packaged study and prints the comparison.

    A second call with the same arguments draws and computes nothing anew.
    """
    started = time.monotonic()
    home = Path(folder).absolute()
    drawn = home / f"posters-{posters}-{seed}"
    if not (drawn / "manifest.csv").exists():
        reporter.say(f"drawing {posters:,} posters into {drawn}")
        write_posters(drawn, posters, seed)
    port_file = home / "port"
    port = int(port_file.read_text()) if port_file.exists() else 0
    with serve(drawn, port=port) as address:
        port_file.write_text(address.rsplit(":", 1)[1])
        study = _study(home, drawn, address)
        run_study(study, reporter)
    found = show(study)
    print(f"\nreport: {study.workspace}/report/index.html (in {format_seconds(time.monotonic() - started)})")
    return found


def show(study: Study) -> Comparison:
    """Prints how well the planted effects came back and returns the comparison."""
    items = gather(study, step="demo")
    scores = train_text.read_table(train_text.folder(study, items), "scores").to_pylist()
    r2 = next(s["value"] for s in scores if s["metric"] == "r2" and s["model"] == study.train_text.encoder)
    found = compare(find_words(study, items).table, r2=r2)
    print("\nwhat was planted, and what the study found (rating points of the second level over the first):\n")
    print("\n".join(found.lines()))
    sys.stdout.flush()
    return found


def _study(home: Path, drawn: Path, address: str) -> Study:
    """The packaged study over a manifest whose posters are at `address`."""
    lines = (drawn / "manifest.csv").read_text(encoding="utf-8").splitlines()
    first = lines[0].split(",")[0]
    served = [lines[0], *(f"{address}/{line}" for line in lines[1:])]
    manifest = home / "manifest.csv"
    manifest.write_text("\n".join(served) + "\n", encoding="utf-8")
    assert first == "poster", f"the manifest's first column is {first!r}, must be poster"
    study = home / "study.yaml"
    study.write_text(STUDY.read_text(encoding="utf-8"), encoding="utf-8")
    return load_study(str(study))
