"""The probe's section of a page: the table of words by class, and for each word its pictures and sentences."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from seewhy.report.examples import Pictured, figures, pictured_lines
from seewhy.report.facts import Facts
from seewhy.report.pictures import Picture, write_heated, write_thumbnails
from seewhy.report.results import About, Extent, ProbeResults, ReadImages, ReadMaps
from seewhy.report.words import Chosen, Column, choose, columns, pictured

FOLDER = "examples"


@dataclass(frozen=True)
class Nouns:
    """What an item and its text are called, in the singular: photo and description, or image and caption."""

    item: str
    holder: str

    @property
    def items(self) -> str:
        return f"{self.item}s"

    @property
    def holding(self) -> str:
        """Items that a word belongs to."""
        return f"{self.items} {'with the word' if self.item == self.holder else f'whose {self.holder} holds the word'}"


@dataclass(frozen=True)
class WordsSection:
    """What templates/words_parts.html draws.

    Attributes:
        pictured: by column, its words that have examples.
        findings: the words tell better than chance, and the page stands behind them.
        layout: of the pictures: "heated" (beside their heat maps), "single", or "texts" (none).
        texts: how many were counted.
        left_out: classes without a column.
        answers: as in ProbeResults.
    """

    columns: list[Column]
    pictured: list[list[Pictured]]
    nouns: Nouns
    classes: bool
    findings: bool
    layout: str
    texts: int
    text_lang: str
    subsamples: int
    left_out: int
    answers: str

    @property
    def example(self) -> tuple[str, str]:
        """Hits and total of the first word, to explain them by."""
        figures = [line.figure for column in self.columns for line in column.lines if "/" in line.figure]
        hits, total = (figures or ["38/58"])[0].split("/")
        return hits, total

    @property
    def tallest(self) -> int:
        """Words of the longest column, 1 or more."""
        return max([1, *(len(column.lines) for column in self.columns)])


def words_section(
    folder: Path,
    about: About,
    probe: ProbeResults,
    extent: Extent,
    *,
    nouns: Nouns,
    findings: bool,
    chosen: list[Chosen] | None = None,
    read_images: ReadImages | None = None,
    read_maps: ReadMaps | None = None,
    predictions: pa.Table | None = None,
    href: Callable[[str], str] = lambda item_id: "",
) -> WordsSection:
    """Works the section out, and writes its pictures into the folder `examples` below `folder`.

    Args:
        findings: whether the page may call the words findings.
        chosen: what `words.choose` gives for `extent.probe_words`, where it is known already.
        read_maps: None: pictures without heat maps.
        predictions: schema.PREDICTIONS of a model of the items, for what it took them for.
        href: item id -> its own page, empty where it has none.
    """
    chosen = choose(probe, about, extent.probe_words) if chosen is None else chosen
    made = columns(chosen, probe, about)
    shown = pictured(chosen, probe, extent)
    ids = list(dict.fromkeys(i for ends in shown.values() for end in ends for i in end))
    targets = predictions if probe.targets is None else probe.targets
    facts = Facts(about, ids, targets, predictions)
    pictures = _write(folder / FOLDER, ids, read_images, read_maps, extent)
    figure = figures(ids, probe, about, facts, pictures, href=href)
    return WordsSection(
        columns=made,
        pictured=[pictured_lines(c, k, shown, figure, about, nouns.items) for k, c in enumerate(made)],
        nouns=nouns,
        classes=bool(about.classes),
        findings=findings,
        layout="texts" if read_images is None else "single" if read_maps is None else "heated",
        texts=probe.counted,
        text_lang=probe.text_lang,
        subsamples=probe.subsamples,
        left_out=len(about.classes) - len(made) if about.classes else 0,
        answers=probe.answers,
    )


def _write(
    folder: Path, ids: list[str], read_images: ReadImages | None, read_maps: ReadMaps | None, extent: Extent
) -> dict[str, Picture]:
    if read_images is None or not ids:
        return {}
    size_px, quality = extent.thumbnail_px, extent.thumbnail_quality
    if read_maps is None:
        return write_thumbnails(folder, ids, read_images, size_px=size_px, quality=quality)
    return write_heated(folder, ids, read_images, read_maps, size_px=size_px, quality=quality)
