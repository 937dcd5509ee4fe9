"""explain_images: every image, or a seeded sample -> a heat map of what its prediction rests on; some are checked."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema, urls
from seewhy.explain_images import CHECK_VERSION, VERSION, CheckMaps, ExplainImages
from seewhy.progress import Reporter
from seewhy.run import Source, Stored
from seewhy.steps import train_image, training
from seewhy.steps.photos import Photos, gather_photos
from seewhy.steps.plan import Plan, plan_stage, run_row_stage
from seewhy.steps.sample import sampled
from seewhy.study import Study
from seewhy.table import Table, digest


def table(study: Study, photos: Photos) -> Table:
    return Table(urls.join(study.workspace, "explain_images", digest(config(study, photos))[:12]), schema.MAPS)


def checks(study: Study, photos: Photos) -> Table:
    """Of how faithful the maps are."""
    url = urls.join(study.workspace, "check_maps", digest(_check_config(study, photos))[:12])
    return Table(url, schema.FAITHFULNESS)


def config(study: Study, photos: Photos) -> dict[str, Any]:
    """The sample is left out: a larger one goes on where a smaller one ended."""
    asked = study.explain_images
    return {
        "stage": "explain_images",
        "stage_code": VERSION,
        "method": asked.method,
        "layer": asked.layer,
        "explain": asked.explain,
        "train_image": digest(train_image.config(study, photos)),
    }


def _check_config(study: Study, photos: Photos) -> dict[str, Any]:
    return {**config(study, photos), "stage": "check_maps", "check_code": CHECK_VERSION}


def source(study: Study, photos: Photos) -> Source:
    """Distinct images that have a held-out prediction, with the fold whose model did not see them and their target."""
    where = train_image.folder(study, photos)
    held_out = training.fold_of_item(where)
    keys = photos.images
    place = pc.index_in(keys[schema.ID], value_set=held_out[schema.ID].combine_chunks())
    targets = held_out["target"].take(place)
    if photos.classes:  # predictions hold numbers and indices of classes alike, as floats
        targets = targets.cast(pa.int32())
    keys = keys.append_column("fold", held_out["fold"].take(place)).append_column("target", targets)
    keys = keys.filter(pc.is_valid(keys["fold"]))
    asked = study.explain_images
    return Source(sampled(keys, asked.sample, asked.seed), (Stored(photos.parts, {"image": "image"}),))


def check_source(study: Study, photos: Photos) -> Source:
    """A seeded sample of the images that have a map, with the map."""
    maps = table(study, photos)
    whole = source(study, photos)
    keys = with_maps(whole.keys, maps)
    asked = study.explain_images
    return Source(sampled(keys, asked.check_sample, asked.seed), (*whole.stored, stored_maps(maps)))


def with_maps(keys: pa.Table, maps: Table) -> pa.Table:
    """The keys that have a map, with where it lies: columns map_part and map_position."""
    found = maps.locate(keys[schema.ID])
    place = pc.index_in(keys[schema.ID], value_set=found[schema.ID].combine_chunks())
    keys = keys.append_column("map_part", found["part"].take(place))
    keys = keys.append_column("map_position", found["position"].take(place))
    return keys.filter(pc.is_valid(keys["map_part"]))


def stored_maps(maps: Table) -> Stored:
    names = ("map", "height", "width", "scale", "outputs", "explained")
    return Stored(maps.parts(), {name: name for name in names}, part="map_part", position="map_position")


def plan(study: Study) -> Plan:
    before = train_image.plan(study)
    if before.new or not before.folder:
        return Plan("explain_images", "", None, None, before.note or "waits for train_image")
    photos = gather_photos(study, step="explain_images")
    return plan_stage("explain_images", study, source(study, photos), table(study, photos))


def run(study: Study, reporter: Reporter) -> None:
    photos = gather_photos(study, step="explain_images")
    asked = study.explain_images
    models = training.models(train_image.folder(study, photos))
    stage_args = {
        "models": [models.get(fold, "") for fold in range(study.train_image.folds)],
        "method": asked.method,
        "layer": asked.layer,
        "batch_size": asked.batch_size,
    }
    run_row_stage(
        "explain_images",
        study,
        reporter,
        stage=ExplainImages,
        stage_args={**stage_args, "target": asked.explain},
        source=source(study, photos),
        table=table(study, photos),
        config=config(study, photos),
        resources=asked.resources,
    )
    if not asked.check_sample:
        return
    run_row_stage(
        "check_maps",
        study,
        reporter,
        stage=CheckMaps,
        stage_args=stage_args,
        source=check_source(study, photos),
        table=checks(study, photos),
        config=_check_config(study, photos),
        resources=asked.resources,
    )
