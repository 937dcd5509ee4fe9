"""What the page keeps between clicks: the study's gallery and results, and models, each opened once for everybody."""

import streamlit as st

from seewhy.app.findings import Findings
from seewhy.app.gallery import Gallery, gallery_of
from seewhy.app.pictures import WebPictures
from seewhy.app.scoring import Scorer
from seewhy.app.spending import Terms, paid, terms_of
from seewhy.app.talking import Speaker
from seewhy.sections import Ask, VisionModel
from seewhy.steps import ask, caption, fetch
from seewhy.steps.once import forget
from seewhy.study import Study

MODELS = 2
"""Of a kind that are held in memory at once: the ones used last."""


def gallery(study: Study) -> Gallery | None:
    """Anew where more images were fetched since."""
    return _gallery(study.model_dump_json(), fetch.parts(study), study)


def findings(study: Study, path: str) -> Findings:
    return _findings(study.model_dump_json(), path, study)


def web(study: Study) -> WebPictures:
    return _web(study.model_dump_json(), study)


@st.cache_resource(max_entries=MODELS, show_spinner=False)
def scorer(model: str, revision: str | None, dtype: str, device: str) -> Scorer:
    return Scorer(model=model, revision=revision, dtype=dtype, device=device)


def speaker(study: Study, asked: VisionModel) -> Speaker:
    """A vision-language model with a study's settings; a service is paid from the study's budget."""
    terms = terms_of(study, asked)
    return _speaker(f"{type(asked).__name__} {asked.model_dump_json()} {terms}", asked, terms)


def read_anew() -> None:
    """What was read of the study is forgotten; models stay."""
    forget()
    for one in (_gallery, _findings, _web):
        one.clear()


# Streamlit takes an argument whose name begins with an underscore for no part of what it keeps a result by.


@st.cache_resource(max_entries=1, show_spinner=False)
def _gallery(name: str, parts: tuple[str, ...], _study: Study) -> Gallery | None:
    return gallery_of(_study)


@st.cache_resource(max_entries=1, show_spinner=False)
def _findings(name: str, path: str, _study: Study) -> Findings:
    return Findings(_study, path)


@st.cache_resource(max_entries=1, show_spinner=False)
def _web(name: str, _study: Study) -> WebPictures:
    return WebPictures(_study)


@st.cache_resource(max_entries=MODELS, show_spinner=False)
def _speaker(name: str, _asked: VisionModel, _terms: Terms | None) -> Speaker:
    if isinstance(_asked, Ask):
        options = {**ask.backend_arguments(_asked), **paid(_terms)}
        return Speaker(template=_asked.template, context=_asked.context, **options)
    return Speaker(**caption.backend_arguments(_asked), **paid(_terms))
