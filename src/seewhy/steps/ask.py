"""ask: every distinct image x the study's questions -> a column an answer, by a vision-language model."""

from typing import Any

import pyarrow as pa

from seewhy import schema, urls
from seewhy.ask import Ask, identity
from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.run import Source
from seewhy.sections import ONLINE
from seewhy.sections import Ask as Asked
from seewhy.steps import caption, fetch
from seewhy.steps.plan import Plan, need_done
from seewhy.steps.vision import Asking, run_vision_stage
from seewhy.study import Study
from seewhy.table import Table, digest
from seewhy.words.answers import answer_line

ANSWER_TOKENS = 32
"""Room for an answer where the study names none; what a longer room kept free, earlier turns would go without."""


def table(study: Study) -> Table:
    url = urls.join(study.workspace, "ask", digest(config(study))[:12])
    return Table(url, schema.answers(columns(study)))


def columns(study: Study) -> list[str]:
    asked = _asked(study)
    return [*asked.prompts, *asked.questions]


def config(study: Study) -> dict[str, Any]:
    return identity(**_arguments(study))


def source(study: Study) -> Source:
    return fetch.distinct_images(study)


def plan(study: Study) -> Plan:
    return fetch.plan_for_images("ask", study, table(study))


def run(study: Study, reporter: Reporter) -> None:
    work = asking(study)
    need_done(fetch.table(study), fetch.source(study), step="ask", before="fetch")
    run_vision_stage(study, reporter, work)


def asking(study: Study) -> Asking:
    return Asking("ask", _asked(study), Ask, _arguments(study), source(study), table(study), config(study))


def answered(study: Study) -> pa.Table:
    """image id and its answers as lines (`answers.answer_line`), one a question, of the images whose answers are all
    there. What the prompts brought is no answer."""
    asked = list(_asked(study).questions)
    found = table(study).locate(source(study).keys.column(schema.ID), asked)
    told = [
        [answer_line(column, answer) for column, answer in zip(asked, answers, strict=True)]
        for answers in zip(*(found[column].to_pylist() for column in asked), strict=True)
    ]
    return pa.table({schema.ID: found[schema.ID], "answers": pa.array(told, pa.list_(pa.string()))})


def backend_arguments(asked: Asked) -> dict[str, Any]:
    """As `caption.backend_arguments`, with the room that answers need."""
    own = {} if asked.backend in (*ONLINE, "fake") else {"max_new_tokens": ANSWER_TOKENS}
    return {**own, **caption.backend_arguments(asked)}


def _arguments(study: Study) -> dict[str, Any]:
    asked = _asked(study)
    return {
        **backend_arguments(asked),
        "questions": tuple(asked.questions.items()),
        "prompts": tuple(asked.prompts.items()),
        "template": asked.template,
        "chat": asked.chat,
        "context": asked.context,
    }


def _asked(study: Study) -> Asked:
    if study.ask is None:
        raise Fatal("this study has no section `ask`: name questions there, as in ask: {questions: [what is this?]}")
    return study.ask
