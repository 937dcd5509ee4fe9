"""Which vision-language models the page offers: the study's own, with its settings, and the packaged one."""

from pathlib import Path

import pytest

from seewhy.sections import Caption
from seewhy.study import load_study
from tests.app.sample import write_study

settings = pytest.importorskip("seewhy.app.settings", reason="streamlit is not installed")


def test_the_studys_models_come_first_each_with_its_decoding(tmp_path: Path) -> None:
    path = write_study(
        tmp_path / "both",
        caption={"backend": "openai", "model": "gpt", "options": {"base_url": "http://x/v1"}, "prompt": "one word"},
        describe={"backend": "hf", "model": "org/vlm", "prompt": "under the heat?", "max_tokens": 7, "controls": []},
    )
    study = load_study(str(path))
    found = settings.speakers_of(study)
    assert list(found) == ["gpt, of the captions", "org/vlm, of the descriptions", "tiny"]
    assert found["gpt, of the captions"] == study.caption
    other = found["org/vlm, of the descriptions"]
    assert (other.backend, other.model, other.max_tokens, other.prompt) == ("hf", "org/vlm", 7, None)
    assert found["tiny"] == Caption()


def test_a_study_of_tiny_models_keeps_their_settings(tmp_path: Path) -> None:
    path = write_study(tmp_path / "ten", caption={"backend": "tiny", "max_tokens": 9})
    study = load_study(str(path))
    assert settings.speakers_of(study) == {"tiny": study.caption}
    texts = {"path": "films.csv", "image": "poster", "text": "title", "target": "rating"}
    other = load_study(str(write_study(tmp_path / "texts", manifest=texts, path="text", score=None)))
    assert settings.speakers_of(other) == {"tiny": Caption()}


def test_questions_are_put_to_the_model_that_the_study_asks_its_own(tmp_path: Path) -> None:
    asked = {"backend": "hf", "model": "org/blip2", "questions": ["why?"], "context": 512}
    study = load_study(str(write_study(tmp_path / "ten", ask=asked, describe={"backend": "hf", "model": "org/vlm"})))
    found = settings.talkers_of(study)
    assert list(found) == ["org/blip2, of the questions", "org/vlm, of the descriptions", "tiny"]
    assert found["org/blip2, of the questions"] == study.ask
    assert list(settings.speakers_of(study)) == ["org/vlm, of the descriptions", "tiny"]
    tiny = {"backend": "tiny", "questions": ["why?"], "max_tokens": 5}
    study = load_study(str(write_study(tmp_path / "tiny", ask=tiny)))
    assert settings.talkers_of(study) == {"tiny": study.ask}
    assert settings.speakers_of(study) == {"tiny": study.caption}
    study = load_study(str(write_study(tmp_path / "none")))
    assert settings.talkers_of(study) == settings.speakers_of(study)


def test_only_what_is_asked_over_a_network_is_a_service() -> None:
    assert settings.called(Caption(backend="gemini", model="gemini-2.5-flash")) == "gemini-2.5-flash, a service"
    assert settings.called(Caption(backend="hf", model="org/vlm")) == "org/vlm"
    assert settings.called(Caption()) == "tiny"
