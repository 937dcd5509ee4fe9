"""Writes the text path's pages: one method a page, nothing decided here that a reader would call a finding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from seewhy.report import items as item_views
from seewhy.report import numbers, overview, safe
from seewhy.report.choose import Chosen, Ends, WordRow
from seewhy.report.concepts import ConceptSection
from seewhy.report.items import Item
from seewhy.report.results import Loss
from seewhy.report.scores import flow, provenance, score_cards, verdict_figure
from seewhy.report.section import WordsSection
from seewhy.report.site import Site
from seewhy.report.verdict import Verdict, first_lines

_INDEX_BYTES = 3_000_000
_FIRST_CARDS = 24  # cards of the index that are in the page itself, for readers without JavaScript


@dataclass(frozen=True)
class Study:
    """What every page of the text path needs to know; `unit` is that of the word values."""

    target_name: str
    classes: list[str]
    unit: str
    text_lang: str
    with_images: bool
    described: bool
    word_key: Callable[[str], str]
    min_items: int
    seed: int
    shown: str = "image"

    @property
    def thing(self) -> str:
        """What an item is: what was `shown` to the model that wrote its text, an image or a video, unless the texts
        came with the data; pictures beside those only illustrate."""
        return self.shown if self.with_images and self.described else "text"

    @property
    def noun(self) -> str:
        return f"{self.thing}s"

    @property
    def holder(self) -> str:
        return "text" if self.thing == "text" else "caption"

    @property
    def outputs(self) -> list[str]:
        return self.classes or [self.target_name]


class Pages:
    """The pages of one report.

    Args:
        items: those that get a page, in the index's order.
        total, explained: how many items there are, and how many of them were explained.
        residual: the most by which the values of an explained text miss its prediction.
        partial: the evaluation budget ended the explanation of at least one text.
        images: ids of the items whose thumbnail is in the folder.
        limit: the word value that gets the full colour.
        site: where the pages are written.
    """

    def __init__(
        self,
        study: Study,
        items: list[Item],
        *,
        total: int,
        explained: int,
        residual: float,
        partial: bool,
        images: set[str],
        limit: float,
        site: Site,
    ) -> None:
        self.study, self.items, self.images, self.limit, self.site = study, items, images, limit, site
        self.total, self.explained = total, explained
        self.residual, self.partial = residual, partial
        self.by_id = {item.id: item for item in items}
        self.value_digits = numbers.decimals([limit])
        targets = np.array([i.target for i in items if i.target is not None], dtype=np.float64)
        self.target_digits, self.predicted_digits = (0, 2) if study.classes else numbers.spread_decimals(targets)

    def write_items(self) -> None:
        (self.site.folder / "items").mkdir()
        for at, item in enumerate(self.items):
            self._write(
                f"items/{item.name}.html",
                "item.html",
                item=item,
                has_image=item.id in self.images,
                facts=self.facts(item),
                accounts=self.accounts(item),
                limit=numbers.number(self.limit, self.value_digits) if self.limit else "",
                ride_along=item_views.ride_along(item),
                before=self.items[at - 1] if at else None,
                after=self.items[at + 1] if at + 1 < len(self.items) else None,
            )

    def facts(self, item: Item) -> list[tuple[str, str]]:
        """(label, value), the actual target first."""
        rows = f" (mean of {len(item.rows)} rows)" if len(item.rows) > 1 and not self.study.classes else ""
        shown = [(f"Actual {self.study.target_name}", self.actual(item) + (rows if item.target is not None else ""))]
        if item.outputs is None:
            return [*shown, ("Predicted", "not predicted")]
        shown.append(("Predicted", self.predicted(item)))
        error = self.error(item)
        if self.study.classes:
            if item.target is not None:
                chance = item.outputs[int(item.target)]
                shown.append(("Probability of the actual class", numbers.number(chance, 2)))
        elif error is not None:
            shown.append(("Predicted minus actual", numbers.signed(error, self.predicted_digits)))
        if item.fold is not None:
            shown.append(("Held-out fold", str(item.fold)))
        return shown

    def actual(self, item: Item) -> str:
        if item.target is None:
            return "unknown"
        if self.study.classes:
            return self.study.classes[int(item.target)]
        return numbers.number(item.target, self.target_digits)

    def predicted(self, item: Item) -> str:
        if item.outputs is None:
            return numbers.NONE
        if self.study.classes:
            best = int(np.argmax(item.outputs))
            return f"{self.study.classes[best]} ({numbers.number(item.outputs[best], 2)})"
        return numbers.number(item.outputs[0], self.predicted_digits)

    def error(self, item: Item) -> float | None:
        """Predicted minus actual; for classes the probability that the actual class did not get."""
        if item.target is None or item.outputs is None:
            return None
        if self.study.classes:
            return 1 - item.outputs[int(item.target)]
        return item.outputs[0] - item.target

    def accounts(self, item: Item) -> list[item_views.Account]:
        """For the predicted class, and for the actual one where they differ; else for the one output."""
        if item.explanation is None:
            return []
        wanted = [0]
        if self.study.classes:
            given = item.outputs or item.explanation["outputs"]
            actual = [] if item.target is None else [int(item.target)]
            wanted = list(dict.fromkeys([int(np.argmax(given)), *actual]))
        return [
            item_views.account(
                item,
                output=k,
                output_name=self.study.outputs[k],
                limit=self.limit,
                digits=self.value_digits,
                word_key=self.study.word_key,
            )
            for k in wanted
        ]

    def write_index(self) -> None:
        """items.html and the list that its script searches; texts are cut so that the list stays under a few MB."""
        most = max(40, min(2000, _INDEX_BYTES // max(1, 3 * len(self.items))))
        data = {
            "digits": {"target": self.target_digits, "error": self.predicted_digits, "value": self.value_digits},
            "classes": bool(self.study.classes),
            "images": self.study.with_images,
            "lang": self.study.text_lang,
            "items": [self._index_line(item, most) for item in self.items],
        }
        script = safe.script_assignment("SEEWHY", data)
        (self.site.folder / "assets" / "items-data.js").write_text(script, encoding="utf-8")
        self._write(
            "items.html",
            "items.html",
            cards=[self._card(item) for item in self.items[:_FIRST_CARDS]],
            shown=len(self.items),
        )

    def _index_line(self, item: Item, most: int) -> list[Any]:
        """Name, title, text, has picture, target, prediction; then what it is sorted by."""
        word, value = self.strongest(item)
        error = self.error(item)
        target = None if item.target is None else round(item.target, 9)
        best = None if item.outputs is None else round(max(item.outputs), 6)
        return [
            item.name,
            safe.visible(item_views.excerpt(item.title, 80)),
            safe.visible(item_views.excerpt(item.text, most)),
            int(item.id in self.images),
            safe.visible(self.actual(item)),
            safe.visible(self.predicted(item)),
            target,
            best,
            None if error is None else round(abs(error), 6),
            None if value is None else round(value, 6),
            safe.visible(word),
            "" if value is None else numbers.signed(value, self.value_digits),
        ]

    def _card(self, item: Item) -> dict[str, Any]:
        return {
            "name": item.name,
            "has_image": item.id in self.images,
            "title": item_views.excerpt(item.title, 80),
            "text": item_views.excerpt(item.text, 160),
            "alt": self.alt(item),
            "actual": self.actual(item),
            "predicted": self.predicted(item),
        }

    def alt(self, item: Item) -> str:
        return item_views.excerpt(item.text, 200) or "No description"

    def strongest(self, item: Item) -> tuple[str, float | None]:
        """The word with the largest value for the predicted output."""
        if item.explanation is None or not item.explanation["words"]:
            return "", None
        k = int(np.argmax(item.outputs or item.explanation["outputs"])) if self.study.classes else 0
        word = max(item.explanation["words"], key=lambda w: abs(w["values"][k]))
        return word["text"].strip(), word["values"][k]

    def sections(
        self, chosen: Sequence[Chosen], ends: Mapping[tuple[str, int], Ends], pictured: int
    ) -> list[overview.Section]:
        """One section an output, on one scale; the first `pictured` words on either side with pictures."""
        scale = overview.word_scale(chosen)

        def line(row: WordRow) -> overview.WordLine:
            return overview.word_line(row, digits=self.value_digits, scale=scale)

        return [
            overview.word_section(
                one,
                name=self.study.outputs[k],
                anchor=f"output-{k}",
                ticks=scale.ticks(4),
                line=line,
                min_items=self.study.min_items,
                holder=self.study.holder,
                pictured=overview.pictured_words(
                    one, {w: e for (w, o), e in ends.items() if o == k}, most=pictured, line=line, picture=self._picture
                ),
            )
            for k, one in enumerate(chosen)
        ]

    def _picture(self, item_id: str, value: float) -> overview.Picture | None:
        item = self.by_id.get(item_id)
        if item is None:
            return None
        return overview.Picture(
            name=item.name,
            has_image=item.id in self.images,
            text=item_views.excerpt(item.text, 90),
            alt=self.alt(item),
            value=numbers.signed(value, self.value_digits),
            sign="pos" if value > 0 else "neg" if value < 0 else "zero",
            facts=(f"actual {self.actual(item)}", f"predicted {self.predicted(item)}"),
        )

    def write_overview(
        self,
        sections: list[overview.Section],
        *,
        losses: Sequence[Loss],
        scores: pa.Table,
        verdict: Verdict | None,
        notes: Sequence[str],
        section: WordsSection | None,
        concepts: ConceptSection | None,
    ) -> None:
        headline, stance = first_lines(verdict, self.study.target_name, self.study.noun)
        self._write(
            "index.html",
            "overview.html",
            headline=headline,
            stance=stance,
            findings=verdict is not None and verdict.beats,
            figure=verdict_figure(verdict),
            sections=sections,
            cards=score_cards(scores, verdict),
            flow=flow(losses),
            notes=notes,
            provenance=provenance(self.site.about.configs),
            residual=f"{self.residual:.1g}",
            partial=self.partial,
            shown=len(self.items),
            section=section,
            concepts=concepts,
        )

    def _write(self, path: str, template: str, **context: Any) -> None:
        self.site.write(path, template, study=self.study, total=self.total, explained=self.explained, **context)
