"""Questions by hand: what is left out of the prompt where it grows too long, and failures as values."""

import io

import pytest
from PIL import Image

from seewhy.app.findings import Told
from seewhy.app.talking import Said, Speaker
from seewhy.app.trying import calls, summary, try_prompt
from seewhy.vlm.chat import PLAIN, Turn, prompt_of

TURNS = [Turn("恐竜は何を持っていますか?", "トーチ"), Turn("それらはどこにいますか?", "森の中です。")]


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 96), "navy").save(out, "PNG")
    return out.getvalue()


def test_a_failure_is_a_value_and_a_text_is_tidied() -> None:
    good = Speaker(backend="fake").caption("a", picture(), "What is this?")
    assert good.text is not None
    assert good.text.startswith("A ")
    assert (good.failure, good.tokens_in) == (None, 4)
    bad = Speaker(backend="fake", rejected_fraction=1.0).ask("a", picture(), TURNS, "Why?")
    assert bad.text is None
    assert bad.failure is not None
    assert (bad.failure.kind, bad.turns) == ("rejected", 2)
    assert bad.prompt == prompt_of("Why?", TURNS, template=PLAIN)


@pytest.mark.slow
def test_the_oldest_turns_go_where_the_prompt_is_too_long() -> None:
    speaker = Speaker(backend="tiny")
    turns = [Turn(f"Is number {i} in the dark picture of a man under the moon?", "a dark poster") for i in range(60)]
    said = speaker.ask("a", picture(), turns, "What is in the sky?")
    assert said.failure is None or said.failure.reason != "prompt_too_long"
    assert 0 < said.turns < 60
    tight = Speaker(backend="tiny", context=60, max_new_tokens=8).ask("a", picture(), turns, "What is in the sky?")
    assert tight.turns < said.turns
    assert (tight.tokens_in or 0) <= 60 - 8
    told = Speaker(backend="tiny", template="Q: {} A:").ask("a", picture(), turns[:1], "Why?")
    assert told.prompt == prompt_of("Why?", turns[:1], template="Q: {} A:")
    assert said.prompt == prompt_of("What is in the sky?", turns[60 - said.turns :])


def test_calls_are_counted_before_they_are_made_and_after() -> None:
    old = Told("a film", "fake")
    assert calls([old, None, old]) == 4
    speaker = Speaker(backend="fake")
    kept = try_prompt(speaker, "a", picture(), "In one word", old=old, old_prompt=None)
    anew = try_prompt(speaker, "b", picture(), "In one word", old=None, old_prompt="Tell me more")
    assert kept.old == old
    assert kept.new.prompt == "In one word"
    assert isinstance(anew.old, Said)
    assert anew.old.prompt == "Tell me more"
    assert anew.old.text != anew.new.text
    own = try_prompt(speaker, "b", picture(), "x", old=None, old_prompt=None)
    assert isinstance(own.old, Said)
    assert own.old.prompt == speaker.default_prompt
    timed = [
        kept.__class__("a", old, Said("p", "t", None, 1.0, 1000, 20)),
        kept.__class__("b", Said("p", "t", None, 2.0, 500, 10), Said("p", None, None, 0.0, None, None)),
    ]
    assert summary(timed) == "3 calls in 3.0 s, 1.00 s each; 1,500 tokens read, 30 written"
    assert summary([]) == "no calls"
