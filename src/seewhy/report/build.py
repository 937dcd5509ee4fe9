"""`build_report`: a study's results in, one folder of static HTML out.

The folder needs no network and no server; only search, sort and paging need JavaScript. Nothing in it is larger for a
study of ten million images than for one of a few thousand: pages are sampled, pictures are made for them alone.
"""

import json
import shutil
from pathlib import Path

from seewhy.report.folder import MARKER, check_replaceable, replaced_folder
from seewhy.report.photo_path import write_photos
from seewhy.report.results import (
    CONTROLS,
    MAP,
    MAP_SAMPLE,
    TASKS,
    About,
    Extent,
    PhotoResults,
    ProbeResults,
    TextResults,
)
from seewhy.report.safe import language_tag
from seewhy.report.site import Link, Site
from seewhy.report.text_path import study_of, write_texts
from seewhy.report.words_path import write_words

_INDEX = "index.html"


def build_report(
    out: str,
    *,
    about: About,
    text: TextResults | None = None,
    photos: PhotoResults | None = None,
    probe: ProbeResults | None = None,
    extent: Extent | None = None,
) -> str:
    """Writes the report and returns the path of its first page.

    The first page, index.html, is the text path's overview; without one the photos' page, and with neither a page of
    the probe's table. With a text path the probe is a section of the overview and the photos have photos.html.

    Args:
        out: local folder; made anew, or put in the place of an earlier report.
        probe: on the texts that are no descriptions of photos: captions, or a column of the manifest.
        extent: how much is shown.

    Raises:
        ValueError: nothing to report, an argument out of its range, or `out` holds files that are no report.
    """
    extent = extent or Extent()
    _check(about, text, photos, probe, extent)
    folder = Path(out).absolute()
    check_replaceable(folder)
    links = _links(about, text, photos, probe, extent)
    with replaced_folder(folder) as fresh:
        shutil.copytree(Path(__file__).parent / "assets", fresh / "assets")
        site = Site(fresh, about, links, _language(text, photos, probe))
        marks = {"seewhy_report": 1}
        if text is not None:
            marks |= write_texts(site, text, probe, extent)
        if photos is not None:
            write_photos(site, _INDEX if text is None else "photos.html", photos, extent)
        if probe is not None and text is None:
            write_words(site, _INDEX if photos is None else "words.html", probe, extent)
        (fresh / MARKER).write_text(json.dumps(marks, indent=1) + "\n", encoding="utf-8")
    return str(folder / _INDEX)


def _links(
    about: About, text: TextResults | None, photos: PhotoResults | None, probe: ProbeResults | None, extent: Extent
) -> list[Link]:
    """To the pages that there will be."""
    links = []
    if text is not None:
        links += [Link("Overview", _INDEX), Link(f"All {study_of(about, text, extent).noun}", "items.html")]
    if photos is not None:
        links.append(Link("Photos", "photos.html" if links else _INDEX))
    if probe is not None and text is None:
        links.append(Link("Words of the texts", "words.html" if links else _INDEX))
    return links


def _language(text: TextResults | None, photos: PhotoResults | None, probe: ProbeResults | None) -> str:
    """That of the texts; of several the first that is named."""
    probes = [] if photos is None else [photos.probes[MAP]]
    tags = [t.text_lang for t in (text, *probes, probe) if t is not None]
    return next((tag for tag in tags if tag), "")


def _check(
    about: About,
    text: TextResults | None,
    photos: PhotoResults | None,
    probe: ProbeResults | None,
    extent: Extent,
) -> None:
    if text is None and photos is None and probe is None:
        raise ValueError("nothing to report: give text, photos or probe")
    if about.task not in TASKS:
        raise ValueError(f"task {about.task!r} is not one of {TASKS}")
    if (about.task == "classification") != (len(about.classes) > 0):
        raise ValueError(
            f"task {about.task!r} was given {len(about.classes)} classes; classification needs them, regression none"
        )
    for name in ("max_pages", "per_end", "top_words", "probe_words"):
        if getattr(extent, name) < 1:
            raise ValueError(f"{name} is {getattr(extent, name)}; it must be 1 or more")
    probes = {} if photos is None else photos.probes
    if photos is not None and MAP not in probes:
        raise ValueError(f"photos.probes has no {MAP!r}: the words told beside the model's own map are always needed")
    allowed = (*CONTROLS, MAP_SAMPLE)
    if unknown := set(probes) - set(allowed):
        raise ValueError(f"photos.probes has {sorted(unknown)}; allowed are {', '.join(allowed)}")
    for one in (text, probe, *probes.values()):
        if one is not None:
            language_tag(one.text_lang)
