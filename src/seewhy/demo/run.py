"""The demo: posters and photos with planted truth, a whole study over each, and what came back of the truth."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from seewhy import urls
from seewhy.demo.districts import planted_words
from seewhy.demo.photo_truth import PhotoComparison, compare_photos
from seewhy.demo.photos import write_photos
from seewhy.demo.posters import write_posters
from seewhy.demo.server import serve
from seewhy.demo.truth import Comparison, compare
from seewhy.describe import MAP
from seewhy.progress import Reporter, format_seconds
from seewhy.steps import probe, train_image, train_text, training
from seewhy.steps.items import gather
from seewhy.steps.order import run_study
from seewhy.steps.photos import gather_photos
from seewhy.steps.report_texts import find_words
from seewhy.steps.words import gather_texts
from seewhy.study import Study, load_study

HERE = Path(__file__).parent

Found = TypeVar("Found")


def run_posters(
    folder: str, *, posters: int, seed: int, reporter: Reporter, workspace: str | None = None
) -> Comparison:
    """Draws posters into `folder`, serves them on this machine, runs the packaged study and prints the comparison.

    Tables and report go to ``posters`` in `workspace`, an absolute path or any fsspec URL, or beside the posters. A
    second call with the same arguments draws and computes nothing anew.
    """
    return _run("posters", folder, posters, seed, reporter, workspace, draw=write_posters, show=show_posters)


def run_photos(
    folder: str, *, photos: int, seed: int, reporter: Reporter, workspace: str | None = None
) -> PhotoComparison:
    """The same for street photos and their districts."""
    return _run("photos", folder, photos, seed, reporter, workspace, draw=write_photos, show=show_photos)


def _run(
    what: str,
    folder: str,
    count: int,
    seed: int,
    reporter: Reporter,
    workspace: str | None,
    *,
    draw: Callable[[Path, int, int], object],
    show: Callable[[Study], Found],
) -> Found:
    started = time.monotonic()
    home = Path(folder).absolute() / what
    drawn = home / f"{what}-{count}-{seed}"
    if not (drawn / "manifest.csv").exists():
        reporter.say(f"drawing {count:,} {what} into {drawn}")
        draw(drawn, count, seed)
    port_file = home / "port"
    port = int(port_file.read_text()) if port_file.exists() else 0
    with serve(drawn, port=port) as address:
        port_file.write_text(address.rsplit(":", 1)[1])
        study = _study(what, home, drawn, address, workspace)
        run_study(study, reporter)
    found = show(study)
    print(f"\nreport: {study.workspace}/report/index.html (in {format_seconds(time.monotonic() - started)})\n")
    sys.stdout.flush()
    return found


def show_posters(study: Study) -> Comparison:
    """Prints how well the planted effects came back and returns the comparison."""
    items = gather(study, step="demo")
    scores = training.read_table(train_text.folder(study, items), "scores").to_pylist()
    r2 = next(s["value"] for s in scores if s["metric"] == "r2" and s["model"] == study.train_text.encoder)
    found = compare(find_words(study, items).table, r2=r2)
    print("\nwhat was planted, and what the study found (rating points of the second level over the first):\n")
    print("\n".join(found.lines()))
    return found


def show_photos(study: Study) -> PhotoComparison:
    """Prints which of the planted words came back and returns the comparison."""
    photos = gather_photos(study, step="demo")
    scores = training.read_table(train_image.folder(study, photos), "scores").to_pylist()
    words = probe.read(study, gather_texts(study, MAP, step="demo"))
    assert words is not None  # of descriptions a probe is made, or the run stops
    found = compare_photos(
        words.table,
        words_accuracy=_accuracy(words.scores.to_pylist(), words.verdict.model),
        image_accuracy=_accuracy(scores, study.train_image.model),
    )
    print(f"\n{sum(map(len, planted_words().values()))} words were planted in the districts' photos; what came back:\n")
    print("\n".join(found.lines()))
    return found


def _accuracy(scores: list[dict[str, object]], model: str) -> float:
    return next(float(str(s["value"])) for s in scores if s["metric"] == "accuracy" and s["model"] == model)


def _study(what: str, home: Path, drawn: Path, address: str, workspace: str | None) -> Study:
    """The packaged study over a manifest whose pictures, its first column, are at `address`."""
    lines = (drawn / "manifest.csv").read_text(encoding="utf-8").splitlines()
    served = [lines[0], *(f"{address}/{line}" for line in lines[1:])]
    (home / "manifest.csv").write_text("\n".join(served) + "\n", encoding="utf-8")
    study = home / "study.yaml"
    study.write_text((HERE / f"{what}.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return load_study(str(study), changed={} if workspace is None else {"workspace": urls.join(workspace, what)})
