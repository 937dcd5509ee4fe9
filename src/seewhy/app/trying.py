"""A changed prompt on a few images, beside what the study's own prompt gave."""

from collections.abc import Sequence
from dataclasses import dataclass

from seewhy.app.findings import Told
from seewhy.app.talking import Said, Speaker

IMAGES = 5


@dataclass(frozen=True)
class Tried:
    """One image's captions by two prompts.

    Attributes:
        old: from the study's table, or made now.
        new: by the changed prompt.
    """

    id: str
    old: Told | Said
    new: Said


def calls(old: Sequence[Told | None]) -> int:
    """Requests that a trial makes: one an image, and one more where the study's own caption is not there."""
    return len(old) + sum(one is None for one in old)


def try_prompt(
    speaker: Speaker, key: str, image: bytes, prompt: str, *, old: Told | None, old_prompt: str | None
) -> Tried:
    """Args:
    old: the image's caption in the study's table; None: made now.
    old_prompt: the study's; None: the backend's own.
    """
    before: Told | Said | None = old
    if before is None:
        before = speaker.caption(key, image, speaker.default_prompt if old_prompt is None else old_prompt)
    return Tried(key, before, speaker.caption(key, image, prompt))


def summary(tried: Sequence[Tried]) -> str:
    """``5 calls in 3.2 s, 0.64 s each; 1,200 tokens read, 180 written``: of the calls made now."""
    made = [one for each in tried for one in (each.old, each.new) if isinstance(one, Said)]
    if not made:
        return "no calls"
    seconds = sum(one.seconds for one in made)
    said = f"{len(made)} call{'s' * (len(made) > 1)} in {seconds:.1f} s, {seconds / len(made):.2f} s each"
    read = [one.tokens_in for one in made if one.tokens_in is not None]
    written = [one.tokens_out for one in made if one.tokens_out is not None]
    return f"{said}; {sum(read):,} tokens read, {sum(written):,} written" if read or written else said
