"""One text looked at closely, on demand: shap's own plot of it, and how its sentences act together."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
import shap

from seewhy import schema
from seewhy.explain import read_part, sentence_interactions
from seewhy.failure import Fatal
from seewhy.manifest import REGRESSION
from seewhy.report.safe import visible
from seewhy.shapley import Explained, owen_values, text_predict, to_shap
from seewhy.steps import train_text, training
from seewhy.steps.items import gather
from seewhy.study import Study
from seewhy.train.text_model import load_text_model
from seewhy.words.spans import sentence_ranges

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Closer:
    """What `look` found, by the model that did not see the text.

    Attributes:
        sentences: (S,) in the order of the text, up to where the model reads.
        interactions: output's name -> (S, S) Shapley interaction index in the output's unit; the diagonal holds each
            sentence's own Shapley value. See `explain.sentence_interactions`.
        plot: shap's text plot, a page of HTML.
    """

    item: str
    fold: int
    sentences: list[str]
    interactions: dict[str, np.ndarray]
    plot: str


def look(study: Study, item: str) -> Closer:
    """Explains one text anew, by its item id or the first digits of it.

    Raises:
        Fatal: no such item, more than one, or one that no model was kept from.
    """
    items = gather(study, step="explain")
    where = train_text.folder(study, items)
    models = training.models(where)
    found = items.texts.filter(pc.starts_with(items.texts[schema.ID], item)).to_pylist()
    if len(found) != 1:
        raise Fatal(f"{len(found)} texts have an id that starts with {item!r}; the report's pages are named by the ids")
    folds = training.fold_of_item(where)
    place = pc.index(folds[schema.ID], found[0][schema.ID]).as_py()
    if place < 0:
        raise Fatal(f"text {found[0][schema.ID]} is in a fold that was not trained: no model was kept from it")
    fold = folds["fold"][place].as_py()
    model, tokenizer = load_text_model(models[fold])
    text = read_part(found[0]["text"], tokenizer=tokenizer, max_length=model.facts.max_length)
    predict = text_predict(model, tokenizer, max_length=model.facts.max_length, softmax=True)
    names = [study.manifest.target] if items.task == REGRESSION else list(items.classes)
    asked = study.explain_words
    explained = owen_values(
        [text],
        predict=predict,
        tokenizer=tokenizer,
        max_evals=asked.max_evals,
        row_batch_size=asked.row_batch_size,
    )
    return Closer(
        item=found[0][schema.ID],
        fold=fold,
        sentences=[text[start:end].strip() for start, end in sentence_ranges(text)],
        interactions={
            name: sentence_interactions(text, predict=predict, tokenizer=tokenizer, output=k)
            for k, name in enumerate(names)
        },
        plot=plot_page(explained, output_names=names, title=found[0][schema.ID]),
    )


def plot_page(explained: Sequence[Explained], *, output_names: Sequence[str], title: str) -> str:
    """shap's text plot as a page of HTML.

    shap escapes the texts but not the outputs' names, which come from the manifest. Hidden characters are written out,
    as in the report. The page's policy allows the
    scripts and styles that shap writes into it, and nothing from elsewhere.
    """
    names = [html.escape(visible(name)) for name in output_names]
    legible = [replace(one, segments=tuple(map(visible, one.segments))) for one in explained]
    plot = shap.plots.text(to_shap(legible, output_names=names if len(names) > 1 else None), display=False)
    return (
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{html.escape(visible(title))}</title>{plot}"
    )
