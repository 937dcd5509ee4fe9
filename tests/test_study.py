"""The study's YAML: mistakes are named by key, value and what is allowed."""

from pathlib import Path

import pytest

from seewhy import storage
from seewhy.failure import Fatal
from seewhy.study import check_study, load_study

GOOD = {"title": "Films", "workspace": "out", "manifest": {"path": "films.csv", "image": "Poster", "target": "Rating"}}


def with_(**sections: object) -> dict:
    return {**GOOD, **sections}


def test_defaults_are_the_article_s() -> None:
    study = check_study(GOOD)
    train, caption = study.train_text, study.caption
    assert (train.encoder, train.learning_rate, train.batch_size, train.epochs) == (
        "google-bert/bert-base-cased",
        5e-5,
        32,
        5,
    )
    assert (train.folds, train.seed, train.max_length, train.warmup_fraction, train.pooling) == (
        5,
        42,
        500,
        0.0,
        "first",
    )
    assert (caption.temperature, caption.top_p, caption.max_tokens) == (None, None, None)  # the backend's own


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (with_(caption={"promt": "x"}), "caption.promt: unknown key (did you mean prompt?); allowed here: backend, "),
        (with_(captions={}), "captions: unknown key (did you mean caption?)"),
        (with_(fetch={"resources": {"gpu": 1}}), "fetch.resources.gpu: unknown key"),
        (
            with_(caption={"temperature": -1}),
            "caption.temperature: -1 is not allowed: input should be greater than or equal to 0",
        ),
        (
            with_(caption={"backend": "gpt"}),
            "caption.backend: 'gpt' is not allowed: input should be 'tiny', 'hf', 'vllm', 'gemini', 'openai' or 'fake'",
        ),
        (with_(caption={"backend": "hf"}), "backend hf needs `model`"),
        (
            with_(fetch={"max_bytes": "20 parsecs"}),
            "fetch.max_bytes: '20 parsecs' is not allowed: a size is a number of bytes",
        ),
        (with_(explain_words={"resources": {"workers": [4, 2]}}), "fewest 4 is more than most 2"),
        (with_(manifest={"path": "a.csv", "target": "x"}), "name the column of the images"),
        (with_(manifest={"path": "a.csv", "image": "x"}), "manifest.target: missing"),
        (with_(train_text={"train_folds": [5]}), "train_folds [5] must name one or more of 0 to 4"),
        (with_(train_text={"launcher": "task", "workers_per_fold": 2}), "2 workers a fold need launcher ray_train"),
        (with_(train_text={"warmup_fraction": 1.0}), "warmup_fraction: 1.0 is not allowed"),
        (with_(fetch={"max_bytes": "inf GB"}), "a size is a number of bytes"),
        (with_(fetch={"allow_private": ["http://x"]}), "neither a host name nor an address"),
        (with_(report={"text_lang": "jap anese"}), "report.text_lang: 'jap anese' is not allowed"),
        (with_(prices={"m": {"in": 1}}), "a price is USD a million tokens for both in and out, not {'in': 1.0}"),
        (with_(retry=["sometimes"]), "retry.0: 'sometimes' is not allowed"),
    ],
)
def test_mistakes_are_named(value: dict, line: str) -> None:
    with pytest.raises(Fatal) as error:
        check_study(value)
    assert line in str(error.value)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(Fatal, match="3 mistakes"):
        check_study(with_(titel="x", limit=0, max_failed_fraction=2))


def test_sizes() -> None:
    assert check_study(with_(fetch={"max_bytes": "20 MB"})).fetch.max_bytes == 20_000_000
    assert check_study(with_(fetch={"max_bytes": "1.5GiB"})).fetch.max_bytes == 3 * 2**29
    assert check_study(with_(fetch={"max_bytes": 77})).fetch.max_bytes == 77


def test_a_block_of_the_largest_images_is_no_more_than_a_worker_can_hold() -> None:
    """Below 2 GiB, where Arrow's 32-bit offsets end, and below 3 GB held twice, as it is while its part is written."""
    fetch = check_study(GOOD).fetch
    assert 2 * fetch.resources.rows_per_block * fetch.max_bytes < 3e9


def test_paths_are_beside_the_study(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "title: Films\nworkspace: out\nmanifest: {path: ../films.csv, image: Poster, target: Rating}\n"
        "caption: {backend: hf, model: ./blip}\ntrain_text: {encoder: org/bert}\n"
        "probe: {tokenizer: janome, user_dictionary: own.csv}\n"
    )
    study = load_study(str(path), limit=7)
    assert study.probe.user_dictionary == str(tmp_path / "own.csv")
    assert study.workspace == str(tmp_path / "out")
    assert study.manifest.path == str(tmp_path.parent / "films.csv")
    assert study.caption.model == str(tmp_path / "blip")
    assert study.train_text.encoder == "org/bert"
    assert study.limit == 7


@pytest.mark.parametrize("text", ["title: [", "- a\n- b\n", "", "\x00"])
def test_no_yaml_no_study(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(Fatal, match=r"study\.yaml"):
        load_study(str(path))
    with pytest.raises(Fatal, match="no study at"):
        load_study(str(tmp_path / "nowhere.yaml"))


def test_a_study_in_a_bucket_has_its_workspace_beside_it(bucket: str) -> None:
    """Not below a folder called `.`, which a bucket, unlike a disk, would have."""
    text = "title: t\nworkspace: ./out\nmanifest: {path: ./films.csv, text: a, target: b}\n"
    storage.write_whole(f"{bucket}/films/study.yaml", text.encode())
    study = load_study(f"{bucket}/films/study.yaml")
    assert study.workspace == f"{bucket}/films/out"
    assert study.manifest.path == f"{bucket}/films/films.csv"
