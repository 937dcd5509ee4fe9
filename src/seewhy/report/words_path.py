"""The page of a study that has nothing but texts and a probe on their words."""

from seewhy.report.claims import probe_lines
from seewhy.report.concepts import concept_section
from seewhy.report.results import Extent, ProbeResults
from seewhy.report.scores import flow, provenance, score_cards
from seewhy.report.section import Nouns, words_section
from seewhy.report.site import Site


def nouns_of(probe: ProbeResults, thing: str = "image") -> Nouns:
    """Texts that a model wrote for images are captions; texts that came with the data are texts, and so are those that
    hold answers."""
    if probe.answers:
        return Nouns("image", "text")
    return Nouns(thing, "caption") if probe.described and probe.read_images is not None else Nouns("text", "text")


_ANSWERS = {"beside": "captions and answers", "instead": "answers"}
"""What holds the words, where some of them are answers."""


def write_words(site: Site, file: str, probe: ProbeResults, extent: Extent) -> None:
    """Writes the page `file` and its pictures."""
    nouns = nouns_of(probe, site.about.thing)
    lines = probe_lines(site.about, probe, _ANSWERS.get(probe.answers, f"{nouns.holder}s"))
    section = words_section(
        site.folder, site.about, probe, extent, nouns=nouns, findings=lines.good, read_images=probe.read_images
    )
    site.write(
        file,
        "words.html",
        lines=lines,
        section=section if probe.words_counted else None,
        concepts=concept_section(probe, site.about, findings=lines.good),
        nouns=nouns,
        cards=score_cards(probe.scores, None),
        flow=flow(probe.losses),
        notes=probe.notes,
        provenance=provenance(site.about.configs),
    )
