"""Both studies of the demo, small, with their workspace on the GCS API: what a study writes and reads goes by gs://."""

import json
from pathlib import Path

import pytest

from seewhy import storage
from seewhy.demo.run import run_photos, run_posters
from seewhy.lease import FOLDER
from seewhy.progress import Reporter
from seewhy.steps.order import tables
from seewhy.study import load_study

QUIET = Reporter(quiet=True)


def objects(url: str) -> dict[str, str]:
    """Name -> generation of each object: a name that is written again has another one. Who ran last is left out."""
    fs, path = storage.open_fs(url)
    found = fs.find(path, detail=True).items()
    return {name: one["generation"] for name, one in found if f"/{FOLDER}/" not in name}


@pytest.mark.ray
@pytest.mark.parametrize(("what", "run", "count"), [("posters", run_posters, 60), ("photos", run_photos, 80)])
def test_the_demo_runs_with_its_workspace_on_object_storage(
    ray_cluster: None, bucket: str, tmp_path: Path, what: str, run: object, count: int
) -> None:
    url = f"{bucket}/{tmp_path.name}"
    assert callable(run)
    run(str(tmp_path), **{what: count}, seed=1, reporter=QUIET, workspace=url)
    study = load_study(str(tmp_path / what / "study.yaml"), changed={"workspace": f"{url}/{what}"})
    written = objects(url)
    found = list(tables(study))
    texts = {"posters": {"caption", "explain_words"}, "photos": {"explain_images", "check_maps", "describe"}}
    stages = {"fetch", "words", *texts[what]}
    assert {one["table"].split("/")[0] for one in found} >= stages
    assert all(one["current"] and one["complete"] for one in found)
    counted = [one["counts"] for one in found if one["table"].split("/")[0] in stages]
    assert all(one["ok"] == one["rows in"] > 0 for one in counted), counted
    assert json.loads(storage.read_whole(f"{url}/{what}/report/seewhy-report.json"))
    assert b"</html>" in storage.read_whole(f"{url}/{what}/report/index.html")
    assert sorted(one.name for one in (tmp_path / what).iterdir()) == sorted(
        ["manifest.csv", "port", "study.yaml", f"{what}-{count}-1"]
    )  # pictures, and nothing of what came of them

    run(str(tmp_path), **{what: count}, seed=1, reporter=QUIET, workspace=url)
    assert objects(url) == written
