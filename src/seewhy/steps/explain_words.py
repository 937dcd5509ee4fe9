"""explain_words: every text, or a seeded sample -> Shapley values of its tokens, words, phrases and sentences."""

from typing import Any

import pyarrow.compute as pc

from seewhy import schema, urls
from seewhy.explain import VERSION, ExplainWords
from seewhy.progress import Reporter
from seewhy.run import Source, Stored
from seewhy.steps import caption, train_text, training
from seewhy.steps.items import Items, gather
from seewhy.steps.plan import Plan, plan_stage, run_row_stage
from seewhy.steps.sample import sampled
from seewhy.study import Study
from seewhy.table import Table, digest


def table(study: Study, items: Items) -> Table:
    url = urls.join(study.workspace, "explain_words", digest(config(study, items))[:12])
    return Table(url, schema.EXPLANATIONS)


def config(study: Study, items: Items) -> dict[str, Any]:
    """The sample is left out: a larger one goes on where a smaller one ended."""
    asked = study.explain_words
    return {
        "stage": "explain_words",
        "stage_code": VERSION,
        "max_evals": asked.max_evals,
        "row_batch_size": asked.row_batch_size,
        "train_text": digest(train_text.config(study, items)),
    }


def source(study: Study, items: Items) -> Source:
    """Items that have a held-out prediction, with the fold whose model did not see them."""
    keys = training.fold_of_item(train_text.folder(study, items)).select([schema.ID, "fold"])
    asked = study.explain_words
    keys = sampled(keys, asked.sample, asked.seed)
    if study.manifest.text is not None:
        place = pc.index_in(keys[schema.ID], value_set=items.texts[schema.ID].combine_chunks())
        return Source(keys.append_column("text", items.texts["text"].take(place)))
    captions = caption.table(study)
    found = captions.locate(keys[schema.ID])
    place = pc.index_in(found[schema.ID], value_set=keys[schema.ID].combine_chunks())
    return Source(found.append_column("fold", keys["fold"].take(place)), (Stored(captions.parts(), {"text": "text"}),))


def plan(study: Study) -> Plan:
    before = train_text.plan(study)
    if before.new or not before.folder:
        return Plan("explain_words", "", None, None, before.note or "waits for train_text")
    items = gather(study, step="explain_words")
    return plan_stage("explain_words", study, source(study, items), table(study, items))


def run(study: Study, reporter: Reporter) -> None:
    items = gather(study, step="explain_words")
    where = train_text.folder(study, items)
    models = training.models(where)
    asked = study.explain_words
    run_row_stage(
        "explain_words",
        study,
        reporter,
        stage=ExplainWords,
        stage_args={
            "models": [models.get(fold, "") for fold in range(study.train_text.folds)],
            "max_evals": asked.max_evals,
            "row_batch_size": asked.row_batch_size,
        },
        source=source(study, items),
        table=table(study, items),
        config=config(study, items),
        resources=asked.resources,
    )
