"""The page of the image path: what the model knows, the words that tell the classes, and what backs them."""

import pyarrow as pa

from seewhy import schema
from seewhy.report.calibration import calibration
from seewhy.report.claims import PERMUTED, WORDS, photo_lines
from seewhy.report.confusion import confusion
from seewhy.report.controls import LABELS, origins
from seewhy.report.faithful import faithful
from seewhy.report.results import CONTROLS, MAP, Extent, PhotoResults
from seewhy.report.scatter import scatter
from seewhy.report.scores import flow, provenance, score_cards, verdict_figure
from seewhy.report.section import Nouns, words_section
from seewhy.report.site import Site
from seewhy.report.verdict import model_name
from seewhy.report.words import choose

NOUNS = Nouns("photo", "description")


def write_photos(site: Site, file: str, photos: PhotoResults, extent: Extent) -> None:
    """Writes the page `file` and its pictures."""
    about, probe = site.about, photos.probes[MAP]
    chosen = choose(probe, about, extent.probe_words)
    lines = photo_lines(about, photos)
    section = words_section(
        site.folder,
        about,
        probe,
        extent,
        nouns=NOUNS,
        findings=lines.good,
        chosen=chosen,
        read_images=photos.read_images,
        read_maps=photos.read_maps,
        predictions=photos.predictions,
    )
    site.write(
        file,
        "photos.html",
        lines=lines,
        figure=verdict_figure(photos.verdict),
        section=section,
        origins=origins(chosen, photos.probes, about),
        cards=score_cards(_scores(photos), photos.verdict, "Image model"),
        confusion=None if photos.confusion is None else confusion(photos.confusion, about.classes),
        scatter=None if about.classes else scatter(photos.predictions, seed=extent.seed),
        calibration=None if photos.calibration is None else calibration(photos.calibration),
        faithful=None if photos.faithfulness is None else faithful(photos.faithfulness, classes=bool(about.classes)),
        flow=flow(photos.losses),
        notes=photos.notes,
        provenance=provenance(about.configs),
        seed=extent.seed,
    )


def _scores(photos: PhotoResults) -> pa.Table:
    """The image model's scores and, under names of their own, those of words alone for each control."""
    rows = photos.scores.to_pylist()
    for control in CONTROLS:
        if control not in photos.probes:
            continue
        own = model_name(WORDS) + (f" ({LABELS[control].lower()})" if len(photos.probes) > 1 else "")
        named = {WORDS: own, PERMUTED: PERMUTED} if control == MAP else {WORDS: own}
        found = photos.probes[control].scores.to_pylist()
        rows += [{**r, "model": named[r["model"]]} for r in found if r["model"] in named]
    return pa.Table.from_pylist(rows, schema.SCORES)
