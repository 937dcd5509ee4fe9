"""What the report shows of the image path: scores, mistakes, maps, and the words of the descriptions."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import __version__, schema
from seewhy.report.results import PhotoResults
from seewhy.report.verdict import Verdict
from seewhy.steps import describe, explain_images, fetch, train_image, training
from seewhy.steps.photos import Photos
from seewhy.steps.plan import need_done
from seewhy.steps.report_words import model_notes, probe_results
from seewhy.steps.words import TEXT, gather_texts, kinds
from seewhy.study import Study
from seewhy.table import Table, digest, read_rows

_CONFUSION = ["truth", "predicted", "count"]
_CALIBRATION = ["bin_low", "bin_high", "count", "confidence", "accuracy"]


def photo_results(study: Study, photos: Photos) -> PhotoResults:
    """Raises Fatal where a step before is not complete."""
    where = train_image.folder(study, photos)
    maps, checks = explain_images.table(study, photos), explain_images.checks(study, photos)
    explained = explain_images.source(study, photos)
    need_done(maps, explained, step="report", before="explain_images")
    return PhotoResults(
        losses=_losses(study, photos),
        scores=training.read_table(where, "scores"),
        verdict=Verdict(**asdict(training.read_verdict(where))),
        predictions=training.read_table(where, "predictions"),
        probes={
            kind: found
            for kind in kinds(study)
            if kind != TEXT
            if (found := probe_results(study, gather_texts(study, kind, step="report"))) is not None
        },
        read_images=image_reader(photos),
        read_maps=_map_reader(maps),
        confusion=_of_model(where, "confusion", _CONFUSION) if photos.classes else None,
        calibration=_of_model(where, "calibration", _CALIBRATION) if photos.classes else None,
        faithfulness=checks.read() if study.explain_images.check_sample else None,
        told=_told(study),
        notes=[*_near_notes(photos), *model_notes(study.describe)],
    )


def _near_notes(photos: Photos) -> list[str]:
    if not photos.near:
        return []
    images = "1 image shows" if photos.near == 1 else f"{photos.near:,} images show"
    return [f"{images} nearly the same picture as another, and stayed in one fold with it."]


def _told(study: Study) -> str:
    """What the describer knew of the answer."""
    if study.explain_images.explain == "true":
        return "The heat maps were made for each photo’s true class, so the descriptions depend on it."
    if study.describe.reveal_prediction:
        return "The describer was told what the image model takes each photo for."
    return ""


def _losses(study: Study, photos: Photos) -> list[tuple[str, int, str]]:
    losses = list(photos.losses)
    maps = explain_images.table(study, photos)
    asked = explain_images.source(study, photos).keys
    left_out = len(photos.images) - len(asked)
    if left_out:
        losses.append(("Not explained", -left_out, "outside the sample, or in a fold that was not trained"))
    losses += _failed("Not explained", maps, asked)
    told = describe.source(study, photos, describe.MAP).keys
    losses.append(("Photos explained", len(told), ""))
    losses += _failed("Not described", describe.table(study, photos, describe.MAP), told)
    return losses


def _failed(label: str, table: Table, asked: pa.Table) -> list[tuple[str, int, str]]:
    counts = table.counts(asked[schema.ID])
    # A reason without a kind is a remark on a row that is ok.
    return [(label, -count, why.split("/", 1)[1]) for why, count in counts.reasons.items() if why[0] != "/"]


def _of_model(where: str, name: str, columns: list[str]) -> pa.Table:
    """The rows of the model that was trained, its rival's left out, under the report's names of the columns."""
    table = training.read_table(where, name)
    table = table.filter(pc.equal(table["model"], training.read_verdict(where).model)).drop(["model"])
    return table.select(range(len(columns))).rename_columns(columns)


def image_reader(photos: Photos) -> Callable[[list[str]], dict[str, bytes]]:
    """image ids -> encoded bytes, as many as there are."""
    places = photos.images.sort_by([("part", "ascending"), ("position", "ascending")])  # each part is opened once

    def read(ids: list[str]) -> dict[str, bytes]:
        where = places.filter(pc.is_in(places[schema.ID], value_set=pa.array(ids, pa.string())))
        pieces = [piece["image"].to_pylist() for piece in read_rows(photos.parts, where, ["image"])]
        return dict(zip(where[schema.ID].to_pylist(), [one for piece in pieces for one in piece], strict=True))

    return read


def _map_reader(maps: Table) -> Callable[[list[str]], pa.Table]:
    def read(ids: list[str]) -> pa.Table:
        pieces = list(maps.batches(schema.MAPS.names, ids=pa.array(ids, pa.string())))
        return pa.concat_tables(pieces) if pieces else schema.MAPS.empty_table()

    return read


def photo_configs(study: Study, photos: Photos) -> dict[str, Any]:
    """Provenance."""
    return {
        "seewhy": __version__,
        "fetch": fetch.table(study).config(),
        "train_image": train_image.config(study, photos),
        "explain_images": explain_images.config(study, photos),
        **{
            f"describe ({control})": describe.table(study, photos, control).config()
            for control in describe.controls(study)
        },
    }


def photo_identity(study: Study, photos: Photos) -> str:
    """Names all that the report shows of the image path, the probes apart."""
    source = explain_images.source(study, photos)
    maps = explain_images.table(study, photos)
    counts = maps.counts(source.keys[schema.ID])
    checked = explain_images.checks(study, photos).done_mark() if study.explain_images.check_sample else None
    told = [describe.table(study, photos, one).done_mark() for one in describe.controls(study)]
    return digest([maps.url, source.rows_digest(), counts.ok, counts.reasons, checked, told, photos.losses])
