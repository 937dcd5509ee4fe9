"""describe: every photo with its heat map -> a text by a vision-language model, and controls without the real map."""

from collections.abc import Sequence
from typing import Any

from seewhy import schema, urls
from seewhy.describe import MAP, NONE, SHOWN, Describe, DescribeRequests, identity
from seewhy.progress import Reporter
from seewhy.run import Source
from seewhy.steps import caption, explain_images
from seewhy.steps.photos import Photos, gather_photos
from seewhy.steps.plan import Plan, plan_stage
from seewhy.steps.sample import sampled
from seewhy.steps.vision import Asking, run_vision_stage
from seewhy.study import Study
from seewhy.table import Table, digest


def controls(study: Study) -> list[str]:
    return [MAP, *study.describe.controls]


def table(study: Study, photos: Photos, control: str) -> Table:
    name = digest(config(study, photos, control))[:12]
    return Table(urls.join(study.workspace, "describe", name), schema.CAPTIONS)


def config(study: Study, photos: Photos, control: str) -> dict[str, Any]:
    """A description without a map depends on no model but the describer."""
    settings = {**identity(**_arguments(study, photos.classes, control))}
    if control != NONE:
        settings["explain_images"] = digest(explain_images.config(study, photos))
    return settings


def source(study: Study, photos: Photos, control: str) -> Source:
    """Images that have a map, with it, or for the control ``none`` without."""
    whole = explain_images.source(study, photos)
    maps = explain_images.table(study, photos)
    keys = explain_images.with_maps(whole.keys.select([schema.ID, "part", "position"]), maps)
    if control != MAP:
        keys = sampled(keys, study.describe.control_sample, study.describe.seed)
    if control == NONE:
        return Source(keys.drop(["map_part", "map_position"]), whole.stored)
    return Source(keys, (*whole.stored, explain_images.stored_maps(maps)))


def plan(study: Study) -> Plan:
    before = explain_images.plan(study)
    if before.new or not before.folder:
        return Plan("describe", "", None, None, before.note or "waits for explain_images")
    photos = gather_photos(study, step="describe")
    plans = [
        plan_stage("describe", study, source(study, photos, control), table(study, photos, control))
        for control in controls(study)
    ]
    return Plan(
        "describe",
        plans[0].folder,
        sum(one.rows or 0 for one in plans),
        sum(one.new or 0 for one in plans),
        f"of each photo from: {', '.join(controls(study))}",
    )


def run(study: Study, reporter: Reporter) -> None:
    photos = gather_photos(study, step="describe")
    for control in controls(study):
        run_vision_stage(study, reporter, asking(study, photos, control))


def asking(study: Study, photos: Photos, control: str) -> Asking:
    return Asking(
        "describe" if control == MAP else f"describe ({control})",
        study.describe,
        Describe,
        _arguments(study, photos.classes, control),
        source(study, photos, control),
        table(study, photos, control),
        config(study, photos, control),
        asks=DescribeRequests,
        shown=SHOWN,
    )


def _arguments(study: Study, classes: Sequence[str], control: str) -> dict[str, Any]:
    asked = study.describe
    prompt = asked.control_prompt if control == NONE else asked.prompt
    told = {"reveal_prediction": True, "classes": list(classes)} if asked.reveal_prediction and control != NONE else {}
    return {
        **caption.backend_arguments(asked),
        "prompt": prompt,
        "language": asked.language,
        "control": control,
        **told,
    }
