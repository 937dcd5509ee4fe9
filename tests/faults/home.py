"""A study of drawn posters, its steps undisturbed, and copies of its workspace in which a step is yet to be done."""

import csv
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from seewhy.demo.posters import caption, draw_factors, write_posters
from seewhy.table import Table
from tests.faults.nodes import Cluster
from tests.faults.slow_server import Served
from tests.faults.watched import begun

POSTERS, ROWS_PER_BLOCK, WORKERS = 118, 5, 3
"""Beside the posters there are a page that is no image and an address where nothing is."""
NEEDS: dict[str, tuple[str, ...]] = {
    "fetch": (),
    "caption": ("fetch",),
    "words": ("caption",),
    "train_text": ("caption",),
    "explain_words": ("train_text",),
    "train_image": ("fetch",),
    "explain_images": ("train_image",),
    "check_maps": ("explain_images",),
    "describe": ("explain_images",),
    "ask": ("fetch",),
    "score": ("fetch",),
}
ROW_STAGES = tuple(step for step in NEEDS if not step.startswith("train"))
PAUSE_SEC = 0.6
"""Of a block, before its work: a kill finds the block that it was meant for."""


@dataclass(frozen=True)
class Home:
    """Attributes:
    folder: with the study and its workspace.
    server: of the posters.
    """

    folder: Path
    server: Served

    @property
    def study(self) -> str:
        return str(self.folder / "study.yaml")

    def log(self, step: str) -> Path:
        return self.folder / "log" / step

    def command(self, *steps: str, pause_sec: float = PAUSE_SEC) -> list[str]:
        """Of the driver."""
        return ["tests.faults.driver", self.study, str(self.folder / "log"), str(pause_sec), *steps]

    def parts(self, step: str) -> list[Path]:
        return sorted((self.folder / "out" / step).glob("*/part-*.parquet"))

    def table(self, step: str) -> Table:
        """Raises ValueError where the step has no table, or more than one."""
        (folder,) = (self.folder / "out" / step).iterdir()
        return Table(str(folder), pq.read_schema(self.parts(step)[0]))

    def rows(self, step: str) -> pa.Table:
        """All columns of all rows, failed ones too, by id."""
        return self.table(step).read(only_ok=False).sort_by("id").combine_chunks()

    def begun(self, step: str) -> list[tuple[int, int, list[str]]]:
        log = self.log(step) / "begun"
        return begun(log) if log.exists() else []

    def seconds(self, step: str) -> float:
        """From when its first driver began it to when its last one ended it."""
        lines = [line.split() for line in (self.log(step) / "times").read_text().splitlines()]
        return float(lines[-1][1]) - float(lines[0][1])

    def ids_on_disk(self, step: str) -> list[tuple[str, str]]:
        """Generation and id of every row of every part as it stands there."""
        return [(path.name[:11], one) for path in self.parts(step) for one in pq.read_table(path)["id"].to_pylist()]

    def need(self, cluster: Cluster, steps: Iterable[str]) -> None:
        """Does these steps undisturbed, and those that they need, where that is not done, in one driver."""
        wanted = set(steps)
        for step in reversed(NEEDS):
            wanted |= set(NEEDS[step]) if step in wanted else set()
        todo = [step for step in NEEDS if step in wanted and not self.log(step).exists()]
        if todo:
            process = cluster.run(*self.command(*todo))
            assert process.wait(timeout=900) == 0, cluster.said()

    def copy(self, folder: Path, *, without: str) -> "Home":
        """The same workspace before the step; the posters are asked of the same server."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("log", "posters"))
        shutil.rmtree(folder / "out" / without)
        return Home(folder, self.server)


def draw(folder: Path, server: Served) -> Home:
    """Posters below `folder`, which `server` serves, and a study in which every row stage has its place."""
    manifest = write_posters(folder, POSTERS, 0)
    (folder / "posters" / "page.jpg").write_text("<html>gone</html>")
    with open(manifest, newline="") as file:
        lines = list(csv.DictReader(file))
    lines += [{**lines[0], "poster": "posters/page.jpg"}, {**lines[1], "poster": "posters/nothing.jpg"}]
    with open(manifest, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows({**line, "poster": f"{server.url}/{line['poster']}"} for line in lines)
    resources = {"workers": WORKERS, "cpus_per_worker": 1, "rows_per_block": ROWS_PER_BLOCK}
    training = {"epochs": 1, "folds": 2, "launcher": "here"}
    study = {
        "title": "Posters under faults",
        "workspace": "out",
        "path": "both",
        "manifest": {"path": "manifest.csv", "image": "poster", "target": "rating"},
        "fetch": {"allow_private": ["127.0.0.1"], "resources": resources},
        "caption": {"backend": "fake", "options": {"rejected_fraction": 0.05}, "resources": resources},
        "train_text": {"encoder": "tiny", "pooling": "mean", **training},
        "explain_words": {"max_evals": 20, "resources": resources},
        "train_image": {"model": "tiny", "near_duplicates": None, **training},
        "explain_images": {"check_sample": 0, "resources": resources},
        "describe": {"backend": "tiny", "temperature": 0, "controls": [], "resources": resources},
        "score": {"model": "tiny", "texts": ["a dog", "a red car"], "resources": resources},
        "ask": {"backend": "tiny", "questions": {"sky": "what is in the sky?"}, "resources": resources},
        "probe": {"resources": resources},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return Home(folder, server)


def write_texts(folder: Path, count: int) -> Home:
    """A table of texts and a study of their words, in blocks of one row."""
    rng = np.random.default_rng(0)
    with open(folder / "texts.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["text", "score"])
        lines.writerows([f"{number}: {caption(draw_factors(rng), rng)}", number % 7] for number in range(count))
    study = {
        "title": "Texts under faults",
        "workspace": "out",
        "path": "words",
        "manifest": {"path": "texts.csv", "text": "text", "target": "score"},
        "probe": {"resources": {"workers": WORKERS, "cpus_per_worker": 1, "rows_per_block": 1}},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return Home(folder, Served(""))
