"""A study's results, made up: posters drawn with Pillow, captions, and values that add up as real ones do."""

import hashlib
import io
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFilter

from seewhy import schema
from seewhy.report import About, Extent, TextResults, Verdict, build_report, plain_word

TEXTS = pa.schema({"id": pa.string(), "text": pa.string()})
ROWS = pa.schema(
    {
        "row": pa.int64(),
        "id": pa.string(),
        "source": pa.string(),
        "target": pa.string(),
        "title": pa.string(),
        "year": pa.int64(),
    }
)
BASE = 6.4
CLASSES = ["drama", "comedy", "thriller"]
LIGHT = {"dark": -0.22, "bright": 0.18, "neon": 0.46}
PEOPLE = {"couple": 0.38, "crowd": -0.31, "lone": 0.12, "nobody": -0.05}
PLACE = {"city": 0.05, "desert": -0.18, "forest": 0.09, "ocean": 0.27}
PALETTE = {"red": 0.1, "blue": 0.06, "golden": 0.33, "green": -0.08, "grey": -0.42}
THING = {"moon": 0.21, "sword": -0.24, "car": 0.03, "umbrella": 0.02}
MOOD = {"hopeful": 0.25, "menacing": -0.13, "quiet": 0.0, "playful": 0.08}
FACTORS = [LIGHT, PEOPLE, PLACE, PALETTE, THING, MOOD]
EFFECTS = {word: effect for factor in FACTORS for word, effect in factor.items()}
PAINT = {
    "red": (196, 52, 44),
    "blue": (38, 92, 170),
    "golden": (222, 164, 52),
    "green": (58, 130, 84),
    "grey": (128, 132, 138),
}
GROUND = {"city": (60, 58, 70), "desert": (204, 168, 112), "forest": (34, 74, 48), "ocean": (28, 92, 128)}
WHO = {
    "couple": "A couple stands",
    "crowd": "A crowd gathers",
    "lone": "A lone figure waits",
    "nobody": "Nobody stands",
}
WHERE = {"city": "before a city skyline", "desert": "in an empty desert", "forest": "at the edge of a forest"}


def item_id(i: int) -> str:
    return hashlib.md5(f"item {i}".encode()).hexdigest()


def draw_poster(words: dict[str, str], rng: np.random.Generator) -> bytes:
    """A 240 x 340 JPEG that shows what the caption says."""
    width, height = 240, 340
    colour = np.array(PAINT[words["palette"]], float)
    shade = {"dark": 0.45, "bright": 1.25, "neon": 0.7}[words["light"]]
    top, bottom = colour * shade, np.array(GROUND[words["place"]], float) * shade
    ramp = np.linspace(0, 1, height)[:, None, None]
    pixels = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels.copy())
    draw = ImageDraw.Draw(image)
    horizon = 230
    if words["place"] == "city":
        for x in range(0, width, 24):
            tall = int(rng.integers(40, 120))
            draw.rectangle((x, horizon - tall, x + 19, horizon), fill=(30, 30, 40))
    if words["place"] == "forest":
        for x in range(6, width, 26):
            draw.polygon(
                [(x, horizon), (x + 13, horizon - int(rng.integers(50, 100))), (x + 26, horizon)], fill=(20, 48, 32)
            )
    if words["place"] == "ocean":
        for y in range(horizon, height, 14):
            draw.line([(0, y), (width, y + 4)], fill=(150, 190, 210), width=2)
    if words["thing"] == "moon":
        draw.ellipse((150, 30, 205, 85), fill=(250, 244, 214))
    if words["thing"] == "umbrella":
        draw.pieslice((30, 60, 110, 130), 180, 360, fill=(240, 220, 90))
        draw.line((70, 95, 70, 150), fill=(40, 40, 40), width=3)
    if words["thing"] == "sword":
        draw.line((50, 40, 50, 160), fill=(225, 225, 235), width=6)
        draw.line((32, 140, 68, 140), fill=(120, 90, 50), width=6)
    if words["thing"] == "car":
        draw.rounded_rectangle((25, 262, 105, 290), 8, fill=(190, 40, 60))
        draw.ellipse((35, 282, 53, 300), fill=(15, 15, 15))
        draw.ellipse((78, 282, 96, 300), fill=(15, 15, 15))
    for x in {"couple": [110, 138], "crowd": range(20, 220, 22), "lone": [124], "nobody": []}[words["people"]]:
        draw.ellipse((x - 8, 200, x + 8, 216), fill=(18, 18, 22))
        draw.rounded_rectangle((x - 10, 217, x + 10, 275), 7, fill=(18, 18, 22))
    if words["light"] == "neon":
        glow = Image.new("RGB", image.size)
        ImageDraw.Draw(glow).rectangle((22, 300, 218, 318), fill=(255, 60, 200))
        image = Image.fromarray(np.maximum(np.array(image), np.array(glow.filter(ImageFilter.GaussianBlur(5)))))
    draw = ImageDraw.Draw(image)
    draw.rectangle((30, 306, 210, 313), fill=(250, 250, 250))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def caption(words: dict[str, str]) -> str:
    where = WHERE.get(words["place"], f"beside the {words['place']}")
    return (
        f"{WHO[words['people']]} {where}, under {words['light']} light. "
        f"The poster is mostly {words['palette']}, with a {words['thing']} that draws the eye. "
        f"The mood is {words['mood']} and the title sits low in the frame."
    )


def spans(text: str, pattern: str) -> list[tuple[int, int]]:
    return [m.span() for m in re.finditer(pattern, text)]


def explain(text: str, fold: int, rng: np.random.Generator, outputs: int) -> dict[str, Any]:
    """Base + words = output exactly; a sentence is the sum of its words."""
    words = []
    for start, end in spans(text, r"\w+"):
        effect = EFFECTS.get(plain_word(text[start:end]), 0.0)
        values = [
            effect * (0.4 if outputs > 1 else 1.0)
            + rng.normal(0, (0.1 if effect else 0.015) * (1 if outputs == 1 else 0.3))
        ]
        if outputs > 1:
            share = (len(text[start:end]) % 3) / 2  # which of the other classes pays for it
            values = [values[0], -values[0] * share, -values[0] * (1 - share)]
        words.append({"text": text[start:end], "start": start, "end": end, "values": values})
    sentences = [
        {
            "text": text[a:b],
            "start": a,
            "end": b,
            "values": np.sum([w["values"] for w in words if a <= w["start"] < b] or [[0.0] * outputs], axis=0).tolist(),
        }
        for a, b in spans(text, r"[^.。]+[.。]?\s*")
    ]
    base = [BASE] if outputs == 1 else [1 / outputs] * outputs
    total = np.add(base, np.sum([w["values"] for w in words] or [[0.0] * outputs], axis=0)).tolist()
    return {
        "id": "",
        "fold": fold,
        "base_values": base,
        "outputs": total,
        "residual": 0.0,
        "evaluations": 300,
        "tokens": words,
        "words": words,
        "phrases": [],
        "sentences": sentences,
    }


def word_table(explanations: list[dict[str, Any]], outputs: list[str], rng: np.random.Generator) -> pa.Table:
    """schema.WORDS by its own definition: the mean over items of a word's summed value, and a bootstrap interval."""
    sums: dict[str, list[np.ndarray]] = {}
    counts: dict[str, int] = {}
    for explanation in explanations:
        here: dict[str, np.ndarray] = {}
        for word in explanation["words"]:
            key = plain_word(word["text"])
            here[key] = here.get(key, 0.0) + np.array(word["values"])
            counts[key] = counts.get(key, 0) + 1
        for key, value in here.items():
            sums.setdefault(key, []).append(value)
    records = []
    for key in sorted(sums):
        values = np.array(sums[key])
        means = values[rng.integers(0, len(values), (200, len(values)))].mean(axis=1)
        for k, output in enumerate(outputs):
            low, high = np.quantile(means[:, k], [0.025, 0.975])
            records.append(
                {
                    "word": key,
                    "output": output,
                    "mean_value": values[:, k].mean(),
                    "mean_abs_value": np.abs(values[:, k]).mean(),
                    "low": low,
                    "high": high,
                    "count": counts[key],
                    "items": len(values),
                    "total": len(explanations),
                }
            )
    return pa.Table.from_pylist(records, schema.WORDS)


def score_table(task: str) -> pa.Table:
    figures = {
        "regression": [
            ("mean", "r2", -0.01, -0.04, 0.0),
            ("ridge_words", "r2", 0.31, 0.19, 0.41),
            ("bert", "r2", 0.44, 0.33, 0.53),
            ("mean", "rmse", 0.71, 0.62, 0.8),
            ("ridge_words", "rmse", 0.6, 0.52, 0.67),
            ("bert", "rmse", 0.53, 0.46, 0.59),
            ("ridge_words", "spearman", 0.55, 0.41, 0.67),
            ("bert", "spearman", 0.66, 0.54, 0.75),
        ],
        "classification": [
            ("majority", "accuracy", 0.37, 0.26, 0.48),
            ("logistic_words", "accuracy", 0.58, 0.46, 0.7),
            ("bert", "accuracy", 0.66, 0.54, 0.77),
        ],
    }[task]
    names = ("model", "metric", "value", "low", "high")
    return pa.Table.from_pylist([dict(zip(names, f, strict=True), rows=66) for f in figures], schema.SCORES)


def sample(*, items: int = 60, task: str = "regression", images: bool = True, beats: bool = True) -> dict[str, Any]:
    """The fields of About, TextResults and Extent in one dict; see `report_of`."""
    rng = np.random.default_rng(7)
    outputs = ["rating"] if task == "regression" else CLASSES
    texts, explanations, predictions, rows, pictures = [], [], [], [], {}
    names = ("light", "people", "place", "palette", "thing", "mood")
    for i in range(items):
        drawn = {n: str(rng.choice(list(f))) for n, f in zip(names, FACTORS, strict=True)}
        text = caption(drawn)
        if i == 4:
            text = "ネオンの街に二人が立っている。全体は金色で、月が目を引く。希望に満ちた雰囲気だ。"
        if i == 5:
            text = "زوجان يقفان أمام البحر تحت ضوء ساطع. الملصق ذهبي في معظمه، والمزاج متفائل."
        explanation = {**explain(text, i % 5, rng, len(outputs)), "id": item_id(i)}
        output = explanation["outputs"]
        if task == "regression":
            target = round(float(np.clip(output[0] + rng.normal(0, 0.5), 0, 10)), 1)
        else:
            output = np.clip(output, 0.01, None)
            output = (output / output.sum()).tolist()
            target = float(rng.choice(len(CLASSES), p=output))
        texts.append({"id": item_id(i), "text": text})
        explanations.append(explanation)
        for _ in range(2 if i % 10 == 3 else 1):
            row = len(rows)
            predictions.append({"row": row, "id": item_id(i), "fold": i % 5, "target": target, "outputs": output})
            rows.append(
                {
                    "row": row,
                    "id": item_id(i),
                    "source": f"https://images.example.com/posters/{1000 + i}.jpg",
                    "target": str(target) if task == "regression" else CLASSES[int(target)],
                    "title": f"{drawn['mood'].title()} {drawn['thing'].title()} {i + 1}",
                    "year": 1960 + i,
                }
            )
        if images and i != 11:
            pictures[item_id(i)] = draw_poster(drawn, rng)
    kept = len(rows)
    gain = 0.13 if beats else -0.02
    arguments: dict[str, Any] = {
        "title": "Film posters and their ratings",
        "question": "What in a film's poster goes with a higher or a lower rating?",
        "target_name": "rating" if task == "regression" else "genre",
        "task": task,
        "classes": [] if task == "regression" else CLASSES,
        "losses": [
            ("Rows in the manifest", kept + 14, ""),
            ("no target", -3, "the rating is empty"),
            ("image not found", -5, "fetch: bad_input, http_404"),
            ("image cut short", -2, "fetch: bad_input, truncated"),
            ("Images fetched", kept + 4, ""),
            ("caption refused", -3, "caption: rejected, safety"),
            ("caption timed out", -1, "caption: transient, time_out; tried again on the next run"),
            ("Rows captioned and predicted", kept, ""),
            ("Rows explained", kept, f"{items} different images"),
        ],
        "scores": score_table(task),
        "verdict": Verdict(
            beats,
            "r2" if task == "regression" else "accuracy",
            gain,
            gain - 0.08,
            gain + 0.08,
            "ridge_words" if task == "regression" else "logistic_words",
            "bert",
        ),
        "words": word_table(explanations, outputs if task != "regression" else ["rating"], rng),
        "predictions": pa.Table.from_pylist(predictions, schema.PREDICTIONS),
        "texts": pa.Table.from_pylist(texts, TEXTS),
        "explanations": pa.Table.from_pylist(explanations, schema.EXPLANATIONS),
        "rows": pa.Table.from_pylist(rows, ROWS),
        "configs": {
            "seed": 42,
            "code": "seewhy 0.1",
            "caption": {
                "model": "Salesforce/blip2-opt-2.7b",
                "revision": "59a1ef6",
                "prompt": "Describe the image concisely.\n- Avoid proper nouns and numbers.",
                "decoding": {"temperature": 1.0, "top_p": 0.95},
            },
            "train_text": {"model": "bert-base-cased", "epochs": 5, "folds": 5},
        },
        "title_column": "title",
        "min_items": 5,
    }
    if images:
        arguments["read_images"] = lambda ids: {i: pictures[i] for i in ids if i in pictures}
    return arguments


def grouped(given: dict[str, Any], kind: type) -> Any:
    """The part of `given` that are fields of the dataclass `kind`."""
    names = {f.name for f in fields(kind)}
    return kind(**{name: value for name, value in given.items() if name in names})


def report_of(out: Path, given: dict[str, Any], **further: Any) -> Path:
    """Builds a report of the text path from one flat dict, and returns its folder."""
    known = {f.name for kind in (About, TextResults, Extent) for f in fields(kind)}
    assert not set(given) - known, f"unknown: {set(given) - known}"
    about, text, extent = (grouped(given, kind) for kind in (About, TextResults, Extent))
    return Path(build_report(str(out), about=about, text=text, extent=extent, **further)).parent
