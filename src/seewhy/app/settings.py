"""The sidebar: which models the page works with."""

from dataclasses import dataclass

import streamlit as st

from seewhy.app import markup, room
from seewhy.sections import ONLINE, Caption, VisionModel
from seewhy.siglip import PLACE, PLAIN
from seewhy.study import Study

TINY = "tiny"
TINY_NOTE = (
    "The packaged tiny model knows the drawings of seewhy’s demo and nothing else: "
    "do not believe what it says of other pictures."
)


@dataclass(frozen=True)
class Models:
    """Attributes:
    score_model: name or folder, with revision, dtype and device as in `siglip.TextImageModel`.
    templates: prompts with {} where a text goes.
    caption, questions: the vision-language models that captions and answers are asked of, and their settings.
    """

    score_model: str
    revision: str | None
    dtype: str
    device: str
    templates: tuple[str, ...]
    caption: Caption
    questions: VisionModel


def called(asked: VisionModel) -> str:
    """``gemini-2.5-flash, a service``."""
    name = asked.model or asked.backend
    return f"{name}, a service" if asked.backend in ONLINE else name


def choose_models(study: Study) -> Models:
    st.subheader("Models")
    own = study.score
    names = [own.model] if own and own.model != TINY else []
    model = st.selectbox(
        "For scores",
        [*names, TINY],
        accept_new_options=True,
        key="score-model",
        help="A SigLIP, SigLIP 2 or CLIP: type a name on the Hugging Face Hub, or a folder. tiny is packaged.",
    )
    written = st.text_area(
        "Templates, one a line",
        "\n".join(own.templates if own else PLAIN),
        key="templates",
        help="Where {} stands the text goes, as in: a photo of {}. Of several the mean counts.",
    )
    templates = tuple(line.strip() for line in written.splitlines() if line.strip()) or PLAIN
    if wrong := [one for one in templates if PLACE not in one]:
        st.html(markup.problem(f"The template {wrong[0]!r} has no {{}} where the text goes; it is left out."))
        templates = tuple(one for one in templates if PLACE in one) or PLAIN
    asked_of, captioned_by = talkers_of(study), speakers_of(study)
    questions = asked_of[st.selectbox("For questions", list(asked_of), key="question-model")]
    captions = captioned_by[st.selectbox("For captions", list(captioned_by), key="caption-model")]
    if st.button("Read the study anew", help="After the manifest has changed, or steps have run meanwhile."):
        room.read_anew()
    mine = own if own and own.model == model else None
    return Models(
        score_model=model or TINY,
        revision=mine.revision if mine else None,
        dtype=mine.dtype if mine else "auto",
        device=mine.device if mine else "auto",
        templates=templates,
        caption=captions,
        questions=questions,
    )


def speakers_of(study: Study) -> dict[str, Caption]:
    """Name -> vision-language model and settings: those that the study captions and describes with, and `tiny`."""
    own = {"captions": study.caption} if study.has_texts and study.manifest.text is None else {}
    if study.has_image_path:
        own["descriptions"] = _as_caption(study.describe)
    found = {f"{one.model or one.backend}, of the {use}": one for use, one in own.items() if one.backend != TINY}
    found[TINY] = next((one for one in own.values() if one.backend == TINY), Caption())
    return found


def talkers_of(study: Study) -> dict[str, VisionModel]:
    """Name -> whom questions may be put to: first the model that the study asks its own, then `speakers_of`."""
    others: dict[str, VisionModel] = dict(speakers_of(study))
    own = study.ask
    if own is None:
        return others
    if own.backend == TINY:
        return {**{name: one for name, one in others.items() if name != TINY}, TINY: own}
    return {f"{own.model or own.backend}, of the questions": own, **others}


def _as_caption(asked: VisionModel) -> Caption:
    """The same model and decoding; what only a description has, its prompt among it, is left out."""
    return Caption(**asked.model_dump(include=set(VisionModel.model_fields) - {"prompt"}))
