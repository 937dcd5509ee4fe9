"""Ask: questions about the picture to a vision-language model, one after the other."""

import streamlit as st

from seewhy.app import markup, room
from seewhy.app.choose import chosen, told
from seewhy.app.pictures import Picture
from seewhy.app.settings import TINY, TINY_NOTE, Models, called
from seewhy.app.spending import terms_of
from seewhy.app.spending import told as told_cost
from seewhy.app.talking import Said
from seewhy.failure import Fatal
from seewhy.sections import VisionModel
from seewhy.study import Study
from seewhy.vlm.chat import Turn


def draw(study: Study, asked: Models) -> None:
    picture = chosen()
    if picture is None:
        st.html(markup.block("Choose a picture first.", "note"))
        return
    model = asked.questions
    try:
        terms = terms_of(study, model)
    except Fatal as error:
        st.html(markup.problem(error))
        return
    if model.backend == TINY:
        st.html(markup.block(TINY_NOTE, "note"))
    talks: dict[tuple[str, str], list[Turn]] = st.session_state.setdefault("talks", {})
    turns = talks.setdefault((picture.id, model.model_dump_json()), [])
    for turn in turns:
        _turn(turn)
    place = st.container()
    question = st.chat_input("A question about the picture", key="question")
    if question and question.strip():
        with place:
            _ask(study, model, picture, question.strip(), turns)
    if terms is not None:  # after the answer, so that what it cost is counted
        st.html(markup.block(f"A question is a call to {called(model)}. {told_cost(terms)}", "note"))
    if turns and st.button("New conversation"):
        turns.clear()
        st.session_state.pop("sent", None)
        st.rerun()
    sent: Said | None = st.session_state.get("sent")
    if sent is not None:
        _sent(sent)


def _turn(turn: Turn) -> None:
    with st.chat_message("user"):
        st.html(markup.block(turn.question))
    with st.chat_message("assistant"):
        st.html(markup.block(turn.answer))


def _ask(study: Study, model: VisionModel, picture: Picture, question: str, turns: list[Turn]) -> None:
    try:
        with st.spinner("The model is answering…"):
            said = room.speaker(study, model).ask(picture.id, picture.data, turns, question)
    except Fatal as error:
        st.html(markup.problem(error))
        return
    st.session_state["sent"] = said
    if said.failure is not None:
        st.html(markup.problem(f"No answer to “{question}”: {told(said.failure)}"))
    elif said.text is not None:
        turn = Turn(question, said.text)
        _turn(turn)
        turns.append(turn)


def _sent(sent: Said) -> None:
    with st.expander("What the model was sent last"):
        st.html(markup.block(sent.prompt or "(an empty prompt)", "code", "code"))
        tokens = "" if sent.tokens_in is None else f"; {sent.tokens_in:,} tokens read, {sent.tokens_out or 0:,} written"
        st.html(markup.block(f"{sent.turns} earlier answers with it, {sent.seconds:.2f} s{tokens}", "note"))
