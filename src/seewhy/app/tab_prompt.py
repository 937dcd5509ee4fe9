"""Try a prompt: a changed prompt on a few of the study's images, its captions beside the old ones."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from seewhy.app import markup, room
from seewhy.app.choose import told
from seewhy.app.findings import Missing, Told
from seewhy.app.gallery import Gallery
from seewhy.app.settings import TINY, TINY_NOTE, Models, called
from seewhy.app.spending import Terms, terms_of
from seewhy.app.spending import told as told_cost
from seewhy.app.talking import Said
from seewhy.app.trying import IMAGES, Tried, calls, summary, try_prompt
from seewhy.failure import Fatal
from seewhy.study import Study

PICTURE_PX = 150


def draw(study: Study, path: str, asked: Models) -> None:
    gallery = room.gallery(study)
    if gallery is None or not len(gallery):
        st.html(markup.block("There are no images of the study’s to try a prompt on.", "note"))
        return
    try:
        terms = terms_of(study, asked.caption)
    except Fatal as error:
        st.html(markup.problem(error))
        return
    seed: int = st.session_state.setdefault("seed", 0)
    ids = gallery.sample(IMAGES, seed)
    old = _old(study, path, asked, ids)
    with st.form("try", border=False):
        prompt = st.text_area(
            "Prompt",
            asked.caption.prompt or "",
            key="prompt",
            persist_state="session",
            help="An empty one lets a BLIP-2 caption freely; to any other model it is no question at all.",
        )
        pressed = st.form_submit_button(f"Caption these {len(ids)} images", type="primary")
    number = calls(old)
    note = f"A click makes {number} calls to {called(asked.caption)}."
    if number > len(ids):
        note += f" {number - len(ids)} of them are for the captions before, which the study’s table does not hold."
    place = st.empty()
    _note(place, note, terms, number)
    if asked.caption.backend == TINY:
        st.html(markup.block(TINY_NOTE, "note"))
    if st.button("Other images"):
        st.session_state["seed"] = seed + 1
        st.rerun()
    kept: dict[tuple[int, str], list[Tried]] = st.session_state.setdefault("tried", {})
    now = seed, asked.caption.model_dump_json()
    if pressed:
        kept[now] = _try(study, asked, gallery, prompt, dict(zip(ids, old, strict=True)))
        _note(place, note, terms, number)  # anew: it has cost something
    if kept.get(now):
        st.html(markup.block(summary(kept[now]), "note"))
    done = {one.id: one for one in kept.get(now, [])}
    for key, before in zip(ids, old, strict=True):
        _row(gallery, key, done.get(key), before)


def _note(place: DeltaGenerator, note: str, terms: Terms | None, calls: int) -> None:
    place.html(markup.block(note if terms is None else f"{note} {told_cost(terms, calls)}", "note"))


def _old(study: Study, path: str, asked: Models, ids: list[str]) -> list[Told | None]:
    """The captions in the study's table, as far as the chosen model wrote them."""
    if study.manifest.text is not None or asked.caption != study.caption:
        return [None] * len(ids)
    found = room.findings(study, path)
    said = [found.caption(key) for key in ids]
    return [None if isinstance(one, Missing) else one for one in said]


def _try(study: Study, asked: Models, gallery: Gallery, prompt: str, old: dict[str, Told | None]) -> list[Tried]:
    made: list[Tried] = []
    progress = st.progress(0.0, "Opening the model…")
    try:
        speaker = room.speaker(study, asked.caption)
        for number, (key, before) in enumerate(old.items(), start=1):
            progress.progress((number - 1) / len(old), f"Image {number} of {len(old)}")
            image = gallery.read(key)
            made.append(try_prompt(speaker, key, image, prompt, old=before, old_prompt=asked.caption.prompt))
    except Fatal as error:
        st.html(markup.problem(error))
    progress.empty()
    return made


def _row(gallery: Gallery, key: str, tried: Tried | None, before: Told | None) -> None:
    card, small = gallery.card(key), gallery.thumbnail(key)
    picture, left, right = st.columns([1, 2, 2])
    with picture:
        if small is not None:
            st.image(small, width=PICTURE_PX, alt="")
        st.html(markup.block(card.title if card else key, "small"))
    with left:
        st.html(markup.block("Before", "small"))
        _text(tried.old if tried else before)
    with right:
        st.html(markup.block("With this prompt", "small"))
        _text(tried.new if tried else None)


def _text(said: Told | Said | None) -> None:
    if said is None:
        st.html(markup.block("–"))
    elif isinstance(said, Told):
        st.html(markup.block(said.text, "fine") + markup.block("from the study’s table", "small"))
    elif said.failure is not None:
        st.html(markup.problem(told(said.failure)))
    else:
        tokens = "" if said.tokens_in is None else f", {said.tokens_in:,} tokens in, {said.tokens_out or 0:,} out"
        st.html(markup.block(said.text or "", "fine") + markup.block(f"{said.seconds:.2f} s{tokens}", "small"))
