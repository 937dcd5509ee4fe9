"""The describe stage: a photo and its map in, words for what the map points at out.

The prompt says that the colours show what a recognition model went by and asks for the things under the hot places.
What the model recognises, what it answered and what would be right are not said, unless `reveal_prediction` asks for
it: words that are to be weighed against the classes later must come from the picture alone. For the same reason
nothing of a file reaches the backend: pictures are drawn anew from pixels, and an id is replaced by its hash.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from seewhy import schema, vlm
from seewhy.caption import answered_rows
from seewhy.failure import BAD_INPUT, Failure, Fatal
from seewhy.heat import heat_of, random_heat
from seewhy.images import BadImage, decode
from seewhy.overlay import encode_jpeg, overlay, reduced, side_by_side
from seewhy.vlm.base import Request

VERSION = 1
"""Goes up with every change of what a backend is shown and asked, and of what this stage makes of its answer."""

MAP, RANDOM, NONE = CONTROLS = ("map", "random", "none")
LANGUAGES = ("ja", "en")

_TEXTS = {
    "ja": {
        "two": "1枚目は写真です。2枚目は同じ写真に、画像認識モデルがどこをどれだけ重視したかを色で重ねたものです。",
        "stitched": "左は写真です。右は同じ写真に、画像認識モデルがどこをどれだけ重視したかを色で重ねたものです。",
        "colours": "赤いほど重視され、黄、緑と下がり、青い所はほとんど使われていません。",
        "hot": "赤や黄の所にある物を挙げ、それぞれの形、色、素材、数、並び方などの特徴を具体的に書いてください。",
        "seen": "写真に写っている物を挙げ、それぞれの形、色、素材、数、並び方などの特徴を具体的に書いてください。",
        "rules": "見える物だけを書き、地名などの固有名詞や推測は書かないでください。",
        "reveal": "モデルの答えは「{prediction}」でした。その答えの決め手になったと考えられる特徴を述べてください。",
        "joint": "",
    },
    "en": {
        "two": (
            "The first picture is a photo. The second is the same photo, tinted by how much each place counted for an "
            "image recognition model."
        ),
        "stitched": (
            "The left half is a photo. The right half is the same photo, tinted by how much each place counted for an "
            "image recognition model."
        ),
        "colours": "Red counted most, then yellow, then green; blue places hardly mattered.",
        "hot": (
            "List the things in the red and yellow places, and say plainly what is distinctive of each: its shape, "
            "colour, material, number or arrangement."
        ),
        "seen": (
            "List the things in the photo, and say plainly what is distinctive of each: its shape, colour, material, "
            "number or arrangement."
        ),
        "rules": "Write only what can be seen: no place names or other proper nouns, and no guesses.",
        "reveal": 'The model\'s answer was "{prediction}". Say which features may have led it to that answer.',
        "joint": " ",
    },
}
_PREDICTION = "{prediction}"


def default_prompt(language: str = "ja", control: str = MAP, *, stitched: bool = False) -> str:
    """What a backend is asked when the study gives no prompt. A random map comes with the words of a real one.

    Args:
        stitched: the two pictures come as one, side by side.
    """
    _one_of("language", language, LANGUAGES)
    _one_of("control", control, CONTROLS)
    texts = _TEXTS[language]
    layout = "stitched" if stitched else "two"
    parts = ["seen", "rules"] if control == NONE else [layout, "colours", "hot", "rules"]
    return texts["joint"].join(texts[part] for part in parts)


class Describe:
    """Row stage: `id`, `image` (bytes), and for a map `map`, `height`, `width` in, schema.CAPTIONS out, in order.

    A row without an image is bad input (`no_image`), as is one without a map where a map is shown (`no_map`); an image
    that cannot be decoded fails by the reasons of `images.decode`; what the backend could not answer carries its
    failure; all other texts are tidied, see `caption.tidy`.

    Args:
        backend: a name in `vlm.LOADERS`.
        prompt: None for `default_prompt`. ``{prediction}`` in it is replaced where the prediction is revealed.
        language: of the default prompt, and of the sentence that reveals a prediction: "ja" or "en".
        control: what is shown beside the photo: "map", the row's; "random", a map of the same values elsewhere, drawn
            by the row's id; "none", nothing.
        reveal_prediction: tell the model's answer: of `classes`, the one of the largest of the row's `outputs`, or
            the output itself where there is but one. The sentence is added to a prompt without ``{prediction}``.
        classes: names of the outputs.
        stitched: show photo and overlay as one picture, side by side. None: where the backend takes one only.
        size_px: a larger photo is reduced to this longer side.
        decode_threads: photos that are drawn anew at once.
        options: flat keyword arguments of that backend (model, revision, temperature, batch_size, ...).

    Raises:
        ValueError: an unknown language or control, or a setting out of range.
        Fatal: the backend cannot be had; from a call: there are not as many classes as outputs.
    """

    def __init__(
        self,
        *,
        backend: str,
        prompt: str | None = None,
        language: str = "ja",
        control: str = MAP,
        reveal_prediction: bool = False,
        classes: Sequence[str] = (),
        stitched: bool | None = None,
        size_px: int = 1024,
        decode_threads: int = 4,
        **options: Any,
    ) -> None:
        _check(language, control, size_px)
        self._backend = vlm.load(backend, **options)
        self._requests = DescribeRequests(
            prompt=prompt,
            language=language,
            control=control,
            reveal_prediction=reveal_prediction,
            classes=classes,
            stitched=self._backend.max_images < 2 if stitched is None else stitched,
            size_px=size_px,
            decode_threads=decode_threads,
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        return answered_rows(batch.column(schema.ID).to_pylist(), self._requests(batch), self._backend.generate)


class DescribeRequests:
    """What is asked about a block of rows: `__call__(batch)` -> a Request a row, or why there is none, in their order.

    Takes the arguments of `Describe` that are not the backend's; columns and failures are those of `Describe` too.
    """

    def __init__(
        self,
        *,
        prompt: str | None = None,
        language: str = "ja",
        control: str = MAP,
        reveal_prediction: bool = False,
        classes: Sequence[str] = (),
        stitched: bool | None = None,
        size_px: int = 1024,
        decode_threads: int = 4,
    ) -> None:
        _check(language, control, size_px)
        if decode_threads < 1:
            raise ValueError(f"decode_threads={decode_threads!r}: 1 or more is allowed")
        self._stitched = bool(stitched)
        self._control = control
        self._size_px = size_px
        self._classes = list(classes) if reveal_prediction else None
        self._prompt = default_prompt(language, control, stitched=self._stitched) if prompt is None else prompt
        if reveal_prediction and _PREDICTION not in self._prompt:
            self._prompt += _TEXTS[language]["joint"] + _TEXTS[language]["reveal"]
        self._pool = ThreadPoolExecutor(decode_threads)

    def __call__(self, batch: pa.Table) -> list[Request | Failure]:
        rows = batch.select([name for name in _READ if name in batch.column_names]).to_pylist()
        return list(self._pool.map(self._request, rows))

    def _request(self, row: dict[str, Any]) -> Request | Failure:
        if row["image"] is None:
            return Failure(BAD_INPUT, "no_image", "the row holds no image bytes")
        if self._control != NONE and row["map"] is None:
            return Failure(BAD_INPUT, "no_map", "the row holds no map to show")
        try:
            photo = reduced(decode(row["image"]), self._size_px)
        except BadImage as error:
            return error.failure
        return Request(_pseudonym(row[schema.ID]), self._pictures(photo, row), self._asked(row))

    def _pictures(self, photo: np.ndarray, row: dict[str, Any]) -> tuple[bytes, ...]:
        if self._control == NONE:
            return (encode_jpeg(photo),)
        heat = heat_of(row["map"], row["height"], row["width"])
        tinted = overlay(photo, random_heat(heat, row[schema.ID]) if self._control == RANDOM else heat)
        if self._stitched:
            return (encode_jpeg(side_by_side(photo, tinted)),)
        return encode_jpeg(photo), encode_jpeg(tinted)

    def _asked(self, row: dict[str, Any]) -> str:
        if self._classes is None:
            return self._prompt
        outputs, classes = row["outputs"], self._classes
        if len(outputs) != max(1, len(classes)):
            raise Fatal(f"the model has {len(outputs)} outputs, and {len(classes)} classes were given")
        told = classes[int(np.argmax(outputs))] if classes else f"{outputs[0]:.3g}"
        return self._prompt.replace(_PREDICTION, told)


SHOWN = (
    "prompt",
    "language",
    "control",
    "reveal_prediction",
    "classes",
    "stitched",
    "size_px",
    "decode_threads",
)
"""Arguments of `Describe` that are not the backend's."""

_READ = (schema.ID, "image", "map", "height", "width", "outputs")


def identity(
    *,
    backend: str,
    prompt: str | None = None,
    language: str = "ja",
    control: str = MAP,
    reveal_prediction: bool = False,
    classes: Sequence[str] = (),
    stitched: bool | None = None,
    size_px: int = 1024,
    decode_threads: int = 4,
    **options: Any,
) -> dict[str, object]:
    """All that changes a description of the same photo and map, for the name of its table.

    Takes the same arguments as `Describe` and loads no weights; see `caption.identity`.
    """
    _check(language, control, size_px)
    asked = {"prompt": default_prompt(language, control) if prompt is None else prompt}
    if prompt is None and control != NONE:
        asked["prompt_stitched"] = default_prompt(language, control, stitched=True)
    if reveal_prediction:
        asked["reveal"] = _TEXTS[language]["reveal"]
    shown = {"control": control, "stitched": stitched, "size_px": size_px}
    told = {"classes": list(classes)} if reveal_prediction else {}
    asked_of = vlm.identity(backend, asked["prompt"], **options)
    return {"stage": "describe", "stage_code": VERSION, **asked_of, **asked, **shown, **told}


def _check(language: str, control: str, size_px: int) -> None:
    _one_of("language", language, LANGUAGES)
    _one_of("control", control, CONTROLS)
    if size_px < 16:
        raise ValueError(f"size_px={size_px!r}: 16 or more is allowed")


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: {', '.join(allowed)} are allowed")


def _pseudonym(key: str) -> str:
    """What random draws are seeded with, and all that a service may ever see of the row's id."""
    return xxhash.xxh128_hexdigest(f"describe {key}".encode())
