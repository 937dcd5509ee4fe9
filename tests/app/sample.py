"""A small finished study of drawn posters, made by the project's own steps in this process."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from seewhy import run
from seewhy.demo.posters import draw_factors, draw_poster, rating
from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.steps import plan
from seewhy.steps.once import forget
from seewhy.steps.order import run_study
from seewhy.study import load_study

COUNT = 10
HOSTILE = (
    '<img src=x onerror="window.ran=1"> ![x](http://evil.example/x.png) :red[a] $b$ \u202e</p><script>window.ran=2'
)
TITLES = ["Amber Harbor", "Velvet Tide", HOSTILE, *(f"Film {i}" for i in range(3, COUNT))]
SCORE_TEXTS = ["a dark poster", "a bright poster", "a dog"]
SMALL = {"rows_per_block": 5}


def blocks_here(
    todo: pa.Table, rows_per_block: int, worker_args: dict[str, Any], _workers: object, _resources: object
) -> Iterator[dict[str, int]]:
    """What `run` has actors do, by the same worker in this process: a study of ten rows is no work for a cluster."""
    worker = run._Worker(**worker_args)
    for start in range(0, len(todo), rows_per_block):
        counts = worker(todo.slice(start, rows_per_block)).to_pylist()[0]
        if (stopped := counts.pop("stopped")) is not None:
            raise Fatal(stopped)
        yield counts


def write_study(folder: Path, **sections: object) -> Path:
    """Ten posters, their manifest and the study's file; nothing is run."""
    rng = np.random.default_rng(5)
    (folder / "posters").mkdir(parents=True)
    lines = [["poster", "title", "rating"]]
    for i in range(COUNT):
        factors = draw_factors(rng)
        draw_poster(factors, rng, (128, 192)).save(folder / f"posters/{i}.png")
        lines.append([f"posters/{i}.png", TITLES[i], f"{rating(factors, rng):.1f}"])
    with open(folder / "films.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    training = {"epochs": 1, "folds": 2, "launcher": "here"}
    value = {
        "title": "Ten posters",
        "question": "What moves the rating?",
        "workspace": "out",
        "path": "both",
        "manifest": {"path": "films.csv", "image": "poster", "target": "rating", "keep": ["title"]},
        "fetch": {"allow_private": ["127.0.0.1"], "resources": SMALL},
        "caption": {"backend": "tiny", "resources": SMALL},
        "train_text": {**training, "encoder": "tiny", "pooling": "mean"},
        "explain_words": {"max_evals": 20, "resources": SMALL},
        "train_image": {**training, "model": "tiny", "near_duplicates": None, "augment": False},
        "explain_images": {"check_sample": 0, "resources": SMALL},
        "describe": {"backend": "tiny", "controls": [], "language": "en", "resources": SMALL},
        "score": {"model": "tiny", "texts": SCORE_TEXTS, "resources": SMALL},
        **sections,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    return folder / "study.yaml"


def run_here(study: Path, *, until: str) -> None:
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_map_blocks", blocks_here)
        patch.setattr(plan, "connect", lambda: None)
        run_study(load_study(str(study)), Reporter(quiet=True), until=until)
