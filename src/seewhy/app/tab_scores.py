"""Scores: a text is typed, its logit and probability join the table above the others."""

import streamlit as st

from seewhy.app import markup, room
from seewhy.app.choose import chosen, told
from seewhy.app.scoring import Trial, as_csv, rows_of
from seewhy.app.settings import TINY, TINY_NOTE, Models
from seewhy.failure import Failure, Fatal

HEAD = ("no", "text", "logit", "probability", "image")


def draw(asked: Models) -> None:
    trials: list[Trial] = st.session_state.setdefault("trials", [])
    with st.form("score", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "A text, in any language that the model knows", key="text", placeholder="a dog", persist_state="session"
        )
        pressed = st.form_submit_button("Score", type="primary")
    if pressed and text.strip():
        _score(asked, text.strip(), trials)
    if asked.score_model == TINY:
        st.html(markup.block(TINY_NOTE, "note"))
    if trials:
        _table(trials)
    else:
        st.html(markup.block("What you try is listed here, so that wordings can be compared.", "note"))


def _score(asked: Models, text: str, trials: list[Trial]) -> None:
    picture = chosen()
    if picture is None:
        st.html(markup.problem("Choose a picture first."))
        return
    try:
        with st.spinner("Scoring…"):
            scorer = room.scorer(asked.score_model, asked.revision, asked.dtype, asked.device)
            found = scorer.score(text, asked.templates, data=picture.data, picture=picture.name, picture_id=picture.id)
    except Fatal as error:
        st.html(markup.problem(error))
        return
    if isinstance(found, Failure):
        st.html(markup.problem(told(found)))
    else:
        trials.append(found)


def _table(trials: list[Trial]) -> None:
    head = (*HEAD, "model") if len({one.model for one in trials}) > 1 else HEAD
    rows = [{name: row[name] for name in head} for row in reversed(rows_of(trials))]
    st.dataframe(
        rows,
        hide_index=True,
        key="history",
        alt="Texts that were scored, the last one first",
        column_config={
            "no": st.column_config.NumberColumn("No.", width=42),
            "text": st.column_config.TextColumn("text", width=170),
            "logit": st.column_config.NumberColumn("logit", format="%.2f", width=62),
            "probability": st.column_config.ProgressColumn(
                "probability", format="%.3f", min_value=0.0, max_value=1.0, width=112
            ),
            "image": st.column_config.TextColumn("image", width=90),
            "model": st.column_config.TextColumn("model", width="small"),
        },
    )
    if any(one.softmax for one in trials):
        note = (
            "CLIP chooses among texts: its probabilities are shares (softmax) of all texts tried on the same picture, "
            "and change with each further one."
        )
        st.html(markup.block(note, "note"))
    with st.container(horizontal=True):
        st.download_button("Download as CSV", as_csv(trials), "scores.csv", "text/csv", on_click="ignore")
        if st.button("Clear the table"):
            trials.clear()
            st.rerun()
