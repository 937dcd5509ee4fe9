"""What the study found: of the chosen picture, from the study's own tables."""

import streamlit as st

from seewhy.app import markup, room
from seewhy.app.choose import chosen
from seewhy.app.findings import Findings, Heat, Missing, Prediction, Told, Words
from seewhy.app.pictures import Picture
from seewhy.failure import Fatal
from seewhy.hiding import told
from seewhy.images import BadImage, decode
from seewhy.overlay import encode_jpeg, overlay, reduced
from seewhy.report.fragment import account_html
from seewhy.study import Study

OVERLAY_PX = 700
_OWN = ("row", "source", "text", "target")  # of a row; the rest rides along


def draw(study: Study, path: str) -> None:
    picture = chosen()
    if picture is None:
        st.html(markup.block("Choose a picture first.", "note"))
        return
    try:
        with st.spinner("Looking it up…"):
            found = room.findings(study, path)
            rows = found.rows(picture.id)
            if not rows:
                note = "This picture is not one of the study’s own: nothing was computed for it."
                st.html(markup.block(note, "note"))
                return
            _from_manifest(study, rows)
            if study.has_captions or study.manifest.text is not None:
                _text_path(study, found, picture)
            if study.has_image_path:
                _image_path(found, picture)
            if study.ask is not None:
                _answers(found, picture)
            _scores(found, picture)
    except Fatal as error:
        st.html(markup.problem(error))


def _from_manifest(study: Study, rows: list[dict[str, object]]) -> None:
    pairs = [(study.manifest.target, str(rows[0]["target"]))]
    pairs += [(name, told(value)) for name, value in rows[0].items() if name not in _OWN and value not in (None, "")]
    st.html(markup.facts(pairs))
    if len(rows) > 1:
        st.html(markup.block(f"{len(rows):,} rows of the manifest show this picture; this is the first.", "note"))


def _text_path(study: Study, found: Findings, picture: Picture) -> None:
    st.html(markup.block("Text" if study.manifest.text else "Caption", "head", "h3"))
    caption, words = found.caption(picture.id), found.words(picture.id)
    if isinstance(caption, Missing):
        st.html(markup.missing(caption.what, caption.why, caption.command))
    elif isinstance(words, Missing):
        _told(caption)
    if study.has_text_path:
        prediction = found.text_prediction(picture.id)
        if isinstance(prediction, Prediction):
            st.html(markup.facts(prediction.facts))
        _words(words)
        if isinstance(prediction, Missing) and not isinstance(words, Missing):
            st.html(markup.missing(prediction.what, prediction.why, prediction.command))


def _words(words: Words | Missing) -> None:
    if isinstance(words, Missing):
        st.html(markup.missing(words.what, words.why, words.command))
        return
    for one in words.accounts:
        if len(words.accounts) > 1:
            st.html(markup.block(f"What speaks for {one.output}", "name"))
        st.html(account_html(one, unit=words.unit, text_lang=words.text_lang, limit=words.limit))


def _image_path(found: Findings, picture: Picture) -> None:
    st.html(markup.block("Where the image model looked", "head", "h3"))
    prediction = found.photo_prediction(picture.id)
    st.html(
        markup.missing(prediction.what, prediction.why, prediction.command)
        if isinstance(prediction, Missing)
        else markup.facts(prediction.facts)
    )
    heat = found.heat(picture.id)
    if isinstance(heat, Missing):
        st.html(markup.missing(heat.what, heat.why, heat.command))
    else:
        _heat(heat, picture)
    st.html(markup.block("Description", "head", "h3"))
    told = found.description(picture.id)
    if isinstance(told, Missing):
        st.html(markup.missing(told.what, told.why, told.command))
    else:
        _told(told)


def _heat(heat: Heat, picture: Picture) -> None:
    try:
        photo = reduced(decode(picture.data), OVERLAY_PX)
    except BadImage as error:
        st.html(markup.problem(error))
        return
    st.image(encode_jpeg(overlay(photo, heat.heat)), alt="The picture, tinted by the heat map", width=360)
    legend = '<p class="app-small" dir="auto">counted least <i class="app-jet"></i> most'
    st.html(f"{legend} for {markup.shown(heat.explained)}</p>")


def _told(told: Told) -> None:
    st.html(markup.block(told.text) + markup.block(f"by {told.by}", "small"))


def _answers(found: Findings, picture: Picture) -> None:
    st.html(markup.block("Answers", "head", "h3"))
    answers = found.answers(picture.id)
    if isinstance(answers, Missing):
        st.html(markup.missing(answers.what, answers.why, answers.command))
        return
    st.html(markup.facts([(one.question, one.answer or f"– {one.why}") for one in answers]))


def _scores(found: Findings, picture: Picture) -> None:
    st.html(markup.block("Scores", "head", "h3"))
    scores = found.scores(picture.id)
    if isinstance(scores, Missing):
        st.html(markup.missing(scores.what, scores.why, scores.command))
        return
    ranked = sorted(scores, key=lambda one: -one.logit)
    lines = [(one.text, f"{one.logit:.2f}", f"{one.probability:.3f}") for one in ranked]
    st.html(markup.table(lines, ("text", "logit", "probability")))
