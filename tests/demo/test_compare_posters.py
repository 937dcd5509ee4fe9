"""Two studies of the demo's posters with the packaged models, whose captions differ in length alone."""

from pathlib import Path

import pytest
import yaml

from seewhy.demo.captions import level_words
from seewhy.demo.posters import write_posters
from seewhy.progress import Reporter
from seewhy.report.comparison import first_lines
from seewhy.steps.compare import compare, write
from seewhy.steps.order import run_study
from seewhy.study import load_study

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SMALL = {"cpus_per_worker": 1, "rows_per_block": 40}
POSTERS = 160


@pytest.mark.long
def test_captions_cut_short_lose_what_they_no_longer_say(ray_cluster: None, tmp_path: Path) -> None:
    write_posters(tmp_path, POSTERS, 5)
    value = {
        "title": "Posters",
        "workspace": "out",
        "manifest": {"path": "manifest.csv", "image": "poster", "target": "rating", "keep": ["title"]},
        "fetch": {"resources": SMALL},
        "caption": {"backend": "tiny", "temperature": 0, "resources": SMALL},
        "train_text": {"encoder": "tiny", "pooling": "mean", "epochs": 2, "folds": 3, "launcher": "here"},
        "explain_words": {"max_evals": 40, "sample": 20, "resources": SMALL},
        "probe": {"subsamples": 20, "resources": SMALL},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(value))
    path = str(tmp_path / "study.yaml")
    whole, short = load_study(path), load_study(path, changed={"caption.max_tokens": 6})
    for study in (whole, short):
        run_study(study, Reporter(quiet=True), until="probe")
    compared = compare(whole, short, names=("whole", "short"))
    found = compared.comparison
    assert found.left_out == []
    (answers,) = found.answers
    assert (answers.first.answered, answers.second.answered) == (POSTERS, POSTERS)
    assert answers.second_spent.tokens_out <= 6 * POSTERS < answers.first_spent.tokens_out
    pairs = {pair.name: pair for pair in found.models}
    assert set(pairs) == {"text model", "probe of the captions"}
    for pair in pairs.values():
        assert (pair.rows, pair.groups, pair.moved) == (POSTERS, POSTERS, 0)  # the same images, dealt alike
    gain = {score.metric: score.gain for score in pairs["probe of the captions"].scores}
    assert gain["r2"].high < 0
    assert gain["rmse"].high < 0
    counted = next(pair for pair in found.words if pair.name.endswith("counted"))
    telling = {word for words in level_words().values() for word in words}
    unsaid = {one.found.word for one in counted.only_first if one.texts == 0}
    assert unsaid & telling
    page = Path(write(compared, str(tmp_path / "compare"))).read_text()
    assert first_lines(found).headline in page
    assert "Probe of the captions" in page
