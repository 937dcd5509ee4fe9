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


def test_only_what_is_asked_over_a_network_is_a_service() -> None:
    asked = {"score_model": "tiny", "revision": None, "dtype": "auto", "device": "auto", "templates": ("{}",)}
    service = Caption(backend="gemini", model="gemini-2.5-flash")
    assert settings.Models(**asked, caption=service).is_service
    assert settings.Models(**asked, caption=service).caption_name == "gemini-2.5-flash"
    assert not settings.Models(**asked, caption=Caption(backend="hf", model="org/vlm")).is_service
