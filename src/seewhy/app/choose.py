"""The left side: the picture that is looked at, and where to take another from."""

import streamlit as st

from seewhy.app import markup, room
from seewhy.app.gallery import Card, Gallery
from seewhy.app.pictures import Picture, uploaded
from seewhy.failure import Failure, Fatal
from seewhy.images import BadImage, thumbnail
from seewhy.study import Study

A_PAGE = 6
CARD_PX = 88
SHOWN_PX = 900
KINDS = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"]
ORIGINS = ("This study", "A file", "A web address")


def chosen() -> Picture | None:
    return st.session_state.get("picture")


def choose_picture(study: Study, path: str) -> None:
    """The picture on top, below it the ways to choose; the first image of the study is there from the start."""
    place = st.container(key="chosen")
    origin = st.radio("Picture from", ORIGINS, horizontal=True, key="origin")
    try:
        if origin == ORIGINS[0]:
            _from_study(study, path)
        elif origin == ORIGINS[1]:
            _from_file(study)
        else:
            _from_web(study)
    except Fatal as error:
        st.html(markup.problem(error))
    with place:
        _show(chosen())


def _show(picture: Picture | None) -> None:
    if picture is None:
        st.html(markup.block("No picture is chosen yet.", "note"))
        return
    try:
        st.image(thumbnail(picture.data, size_px=SHOWN_PX, quality=88), alt="The chosen picture")
    except BadImage as error:
        st.html(markup.problem(told(error.failure)))
    st.html(markup.block(picture.name, "name") + markup.block(f"id {picture.id}", "small"))


def _from_study(study: Study, path: str) -> None:
    with st.spinner("Reading the study’s images…"):
        gallery = room.gallery(study)
    if gallery is None:
        st.html(markup.block("This study has texts and no images: choose a file or a web address.", "note"))
    elif not len(gallery):
        st.html(markup.block("No image of this study has been fetched yet. To fetch them:", "note"))
        st.html(markup.block(room.findings(study, path).command("fetch"), "code", "code"))
    else:
        if chosen() is None:
            _take(gallery, gallery.cards([0])[0])
        _search(gallery)


def _search(gallery: Gallery) -> None:
    words = st.text_input("Search by title, target or id", key="search")
    found = gallery.search(words)
    pages = max(1, -(-len(found) // A_PAGE))
    if st.session_state.get("searched") != words:
        st.session_state["searched"], st.session_state["page"] = words, 1
    page = min(st.session_state.get("page", 1), pages)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("‹", disabled=page <= 1, key="back", help="The images before these"):
            page -= 1
        if st.button("›", disabled=page >= pages, key="next", help="The next images"):
            page += 1
        st.html(
            markup.block(f"{len(found):,} of {len(gallery):,} images; page {page:,} of {pages:,}", "note"),
            width="content",
        )
    st.session_state["page"] = page
    with st.container(horizontal=True, gap="xsmall", key="cards"):
        for card in gallery.cards(found[(page - 1) * A_PAGE : page * A_PAGE]):
            _card(gallery, card)


def _card(gallery: Gallery, card: Card) -> None:
    with st.container(width=CARD_PX, key=f"card-{card.id}", gap="xsmall"):
        small = gallery.thumbnail(card.id)
        if small is not None:
            st.image(small, width=CARD_PX, alt="")
        clip = f'<p class="app-small app-clip" dir="auto">{markup.shown(card.title)}</p>'
        st.html(clip + markup.block(card.target, "small"))
        now = chosen()
        mine = now is not None and now.id == card.id
        if st.button("Chosen" if mine else "Choose", disabled=mine, key=f"choose-{card.id}"):
            _take(gallery, card)
            st.rerun()


def _take(gallery: Gallery, card: Card) -> None:
    st.session_state["picture"] = Picture(card.id, card.title, gallery.read(card.id))


def _from_file(study: Study) -> None:
    most = -(-study.fetch.max_bytes // 10**6)
    file = st.file_uploader("Image file", type=KINDS, key="file", max_upload_size=most)
    if file is None:
        return
    found = uploaded(study, file.name, file.getvalue())
    if isinstance(found, Failure):
        st.html(markup.problem(told(found)))
    elif st.session_state.get("uploaded") != file.file_id:
        st.session_state["uploaded"], st.session_state["picture"] = file.file_id, found
    elif st.session_state["picture"] != found and st.button("Back to this file"):
        st.session_state["picture"] = found
        st.rerun()


def _from_web(study: Study) -> None:
    with st.form("web", border=False):
        url = st.text_input("Web address of an image", placeholder="https://", key="url")
        asked = st.form_submit_button("Fetch")
    if not asked or not url.strip():
        return
    with st.spinner("Fetching…"):
        found = room.web(study).get(url)
    if isinstance(found, Failure):
        st.html(markup.problem(told(found)))
    else:
        st.session_state["picture"] = found


def told(failure: Failure) -> str:
    """``forbidden_address (bad_input): 127.0.0.1 is not a public address``."""
    return f"{failure.reason} ({failure.kind})" + (f": {failure.detail}" if failure.detail else "")
