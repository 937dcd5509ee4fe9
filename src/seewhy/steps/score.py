"""score: every distinct image x the study's texts -> how well each text fits, by SigLIP or a model of its kind."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema, urls
from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.run import Source
from seewhy.score import Score, identity
from seewhy.sections import Score as Asked
from seewhy.steps import fetch
from seewhy.steps.plan import Plan, need_done, run_row_stage
from seewhy.study import Study
from seewhy.table import Table, digest


def table(study: Study) -> Table:
    return Table(urls.join(study.workspace, "score", digest(config(study))[:12]), schema.SCORED)


def config(study: Study) -> dict[str, Any]:
    """The texts are part of it: with another text every image is scored anew, since lists are in their order."""
    return identity(**_arguments(study))


def source(study: Study) -> Source:
    return fetch.distinct_images(study)


def plan(study: Study) -> Plan:
    return fetch.plan_for_images("score", study, table(study))


def run(study: Study, reporter: Reporter) -> None:
    asked = _asked(study)
    need_done(fetch.table(study), fetch.source(study), step="score", before="fetch")
    settings = config(study)
    stage_args = {
        **_arguments(study),
        "revision": settings["revision"],  # the exact commit, so that every worker runs what the table's name says
        "device": asked.device,
        "batch_size": asked.batch_size,
    }
    run_row_stage(
        "score",
        study,
        reporter,
        stage=Score,
        stage_args=stage_args,
        source=source(study),
        table=table(study),
        config=settings,
        resources=asked.resources,
    )


def has_score(study: Study, images: pa.Array) -> np.ndarray:
    """(N,) whether each image id, or null, has scores. Raises Fatal where the step is not complete."""
    need_done(table(study), source(study), step="probe", before="score")
    known = table(study).locate(source(study).keys[schema.ID])[schema.ID].combine_chunks()
    return pc.is_in(images, value_set=known, skip_nulls=True).to_numpy(zero_copy_only=False)


def logits(study: Study, images: pa.Array) -> np.ndarray:
    """(N, T) float64 of image ids that all have scores, in the order of the study's texts."""
    found = table(study).locate(pc.unique(images), ["logits"])
    place = pc.index_in(images, value_set=found[schema.ID].combine_chunks())
    flat = found["logits"].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return flat.reshape(len(found), len(_asked(study).texts))[place.to_numpy()]


def _arguments(study: Study) -> dict[str, Any]:
    """What of the stage's arguments changes a score."""
    asked = _asked(study)
    return {
        "model": asked.model,
        "revision": asked.revision,
        "dtype": asked.dtype,
        "texts": asked.texts,
        "templates": asked.templates,
    }


def _asked(study: Study) -> Asked:
    if study.score is None:
        raise Fatal("this study has no section `score`: name the texts there, as in score: {texts: [a dog, a car]}")
    return study.score
