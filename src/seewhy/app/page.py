"""The Streamlit script: `streamlit run page.py -- STUDY [LIMIT]`, which `seewhy app STUDY` does with safe settings.

It runs from top to bottom at every click. What takes long is imported after the first paint and kept by `room`.
"""

import sys

import streamlit as st

from seewhy.app import markup
from seewhy.failure import Fatal
from seewhy.study import Study, load_study

TABS = ("Scores", "Ask", "What the study found", "Try a prompt")


def main() -> None:
    st.set_page_config(page_title="seewhy", layout="wide", initial_sidebar_state="auto")
    path, limit = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None
    st.html(markup.STYLE)
    try:
        study = load_study(path, limit=limit)
        head = [markup.block(study.title, "title", "h1")]
        st.html("".join([*head, markup.block(study.question, "lead")] if study.question else head))
        draw(study, path)
    except Fatal as error:
        st.html(markup.problem(error))


def draw(study: Study, path: str) -> None:
    with st.spinner("Opening the study…"):
        from seewhy.app import choose, settings, tab_ask, tab_found, tab_prompt, tab_scores

    with st.sidebar:
        asked = settings.choose_models(study)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        choose.choose_picture(study, path)
    with right:
        scores, ask, found, prompt = st.tabs(TABS, on_change="rerun", key="tab")
        if scores.open:
            with scores:
                tab_scores.draw(asked)
        if ask.open:
            with ask:
                tab_ask.draw(study, asked)
        if found.open:
            with found:
                tab_found.draw(study, path)
        if prompt.open:
            with prompt:
                tab_prompt.draw(study, path, asked)


if __name__ == "__main__":
    main()
