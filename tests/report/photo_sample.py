"""An image path's results, made up: street photos of four districts, heat maps, descriptions, counted words."""

import hashlib
import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from seewhy import schema
from seewhy.report import About, PhotoResults, ProbeResults, Verdict

DISTRICTS = ["浜風区", "市場通", "丘の手", "川辺町"]
TYPICAL = {"浜風区": ["船", "灯台"], "市場通": ["屋台", "提灯"], "丘の手": ["鳥居", "石段"], "川辺町": ["橋", "自転車"]}
PLAIN = ["電柱", "信号", "風船"]
BEHIND = ["家並み", "道", "空", "人通り", "手前", "古い", "広い"]  # of the describer's habits
WORDS = [*(w for ws in TYPICAL.values() for w in ws), *PLAIN]
PAINT = {w: tuple(int(c) for c in hashlib.md5(w.encode()).digest()[:3]) for w in WORDS}
LOOKED_AT = {w for ws in TYPICAL.values() for w in ws} - {"自転車"}
LOOSE = {"random": 0.4, "none": 0.95}  # share of the objects that are named beside a random map, and beside none
SHAPE = (12, 8)  # rows and columns of a heat map


def photo_id(i: int) -> str:
    return hashlib.md5(f"photo {i}".encode()).hexdigest()


def draw(objects: Sequence[str], rng: np.random.Generator) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """A JPEG of 160 x 240 pixels, and where each object stands in it."""
    image = Image.new("RGB", (160, 240), (188, 206, 226))
    pen = ImageDraw.Draw(image)
    for x in range(0, 160, 32):
        tall = int(rng.integers(60, 130))
        pen.rectangle((x, 170 - tall, x + 29, 170), fill=tuple(int(v) for v in rng.integers(150, 215, 3)))
    pen.rectangle((0, 170, 160, 240), fill=(120, 118, 116))
    at = {}
    places = [(x, y) for y in (60, 120, 180) for x in (35, 95)]
    for k, name in zip(rng.permutation(len(places))[: len(objects)].tolist(), objects, strict=False):
        x, y = places[k]
        pen.ellipse((x, y, x + 34, y + 34), fill=PAINT[name], outline=(30, 30, 34), width=2)
        pen.rectangle((x + 12, y + 30, x + 22, y + 48), fill=PAINT[name])
        at[name] = (x + 17, y + 17)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue(), at


def heat(spots: Sequence[tuple[int, int]]) -> np.ndarray:
    """SHAPE of 0 to 1: a hill over each spot (x, y) of a 160 x 240 picture."""
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    hills = [np.exp(-(((x + 0.5) * 20 - a) ** 2 + ((y + 0.5) * 20 - b) ** 2) / 900) for a, b in spots]
    return np.max(hills, axis=0) if hills else np.zeros(SHAPE)


def describe(objects: Sequence[str], rng: np.random.Generator) -> str:
    said = "、".join(objects) if objects else "特に目立つ物"
    first = ["写真では{}が強調されています。", "モデルは{}に注目しています。", "{}のあたりが赤く見えます。"]
    last = [
        "背景は古い家並みです。",
        "手前には広い道があります。",
        "空は晴れていて、人通りはありません。",
        "空が広い。",
    ]
    return str(rng.choice(first)).format(said) + str(rng.choice(last))


def wilson(hits: int, total: int) -> tuple[float, float]:
    """95% interval of a share (E. B. Wilson, 1927)."""
    z = 1.959964
    middle = (hits + z * z / 2) / (total + z * z)
    half = z / (total + z * z) * math.sqrt(hits * (total - hits) / total + z * z / 4)
    return middle - half, middle + half


def class_rows(held: Mapping[str, set[int]], targets: Sequence[int], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of schema.PROBE for each class, its words by lift; the weight is made up, the rest is counted."""
    rows = []
    n = len(targets)
    for k, name in enumerate(classes):
        members = {i for i, t in enumerate(targets) if t == k}
        found = []
        for word, texts in held.items():
            hits, total, base = len(texts & members), len(texts), len(members) / n
            if not total:
                continue
            low, high = wilson(hits, total)
            out = {i for i in texts if i % 5 == 0}
            found.append(
                {
                    "output": name,
                    "word": word,
                    "weight": 2 * (hits / total - base),
                    "hits": hits,
                    "total": total,
                    "base_rate": base,
                    "lift": hits / total / base,
                    "lift_low": low / base,
                    "lift_high": high / base,
                    "selection": min(1.0, max(0.02, 3 * (hits / total - base))),
                    "held_out_hits": len(out & members),
                    "held_out_total": len(out),
                }
            )
        found.sort(key=lambda r: (-r["weight"], r["word"]))
        for rank, row in enumerate((r for r in found if r["weight"] > 0), start=1):
            row["rank"] = rank
        rows += found
    return rows


def number_rows(held: Mapping[str, set[int]], targets: Sequence[float], output: str) -> list[dict[str, Any]]:
    rows = []
    values = np.asarray(targets)
    for word, texts in held.items():
        if not texts:
            continue
        inside = np.isin(np.arange(len(values)), sorted(texts))
        with_it, without = values[inside], values[~inside]
        gap = float(with_it.mean() - without.mean())
        half = 1.96 * math.sqrt(with_it.var() / len(with_it) + without.var() / len(without))
        rows.append(
            {
                "output": output,
                "word": word,
                "weight": gap / 2,
                "total": len(texts),
                "selection": min(1.0, abs(gap)),
                "mean_with": float(with_it.mean()),
                "mean_without": float(without.mean()),
                "difference": gap,
                "difference_low": gap - half,
                "difference_high": gap + half,
            }
        )
    rows.sort(key=lambda r: (-r["weight"], r["word"]))
    for rank, row in enumerate(rows, start=1):
        row["rank"] = rank
    return rows


def scores(figures: Sequence[tuple[str, str, float, float, float]], rows: int) -> pa.Table:
    names = ("model", "metric", "value", "low", "high")
    return pa.Table.from_pylist([dict(zip(names, f, strict=True), rows=rows) for f in figures], schema.SCORES)


def examples(
    rows: Sequence[Mapping[str, Any]],
    held: Mapping[str, set[int]],
    fits: Callable[[Mapping[str, Any], int], bool],
    *,
    name: Callable[[int], str] = photo_id,
) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
    """`fits(row, i)`: whether item number i is a hit of the row's word; `name(i)`: its id."""
    found = {}
    for row in rows:
        inside = sorted(held[row["word"]])
        hits = [name(i) for i in inside if fits(row, i)]
        found[row["output"], row["word"]] = (hits[:5], [name(i) for i in inside if name(i) not in hits][:5])
    return found


def about(task: str = "classification", **changed: Any) -> About:
    given: dict[str, Any] = {
        "title": "街の写真と地区",
        "question": "What in a street photo tells which district it was taken in?",
        "target_name": "district" if task == "classification" else "rent",
        "task": task,
        "classes": DISTRICTS if task == "classification" else (),
        "configs": {
            "seed": 42,
            "train_image": {"model": "google/mobilenet_v2", "folds": 5},
            "describe": {"prompt": "モデルが注目している物を日本語で述べてください。", "reveal_prediction": False},
        },
    }
    return About(**{**given, **changed})


class Photos:
    """The drawn photos, from which the results of either task are made."""

    def __init__(self, count: int = 120) -> None:
        rng = np.random.default_rng(3)
        self.count = count
        self.ids = [photo_id(i) for i in range(count)]
        self.district = [i % len(DISTRICTS) for i in range(count)]
        self.objects = [self._objects(d, rng) for d in self.district]
        drawn = [draw(objects, rng) for objects in self.objects]
        self.images = {i: data for i, (data, _) in zip(self.ids, drawn, strict=True)}
        self.spots = [spots for _, spots in drawn]
        self.rent = [
            round(5 + 1.5 * ("船" in o) + 1.2 * ("鳥居" in o) - 1.4 * ("屋台" in o) + rng.normal(0, 0.8), 1)
            for o in self.objects
        ]
        hot = [[o for o in objects if o in LOOKED_AT] for objects in self.objects]
        self.said = {"map": hot, **{c: [self._seen(o, share, rng) for o in self.objects] for c, share in LOOSE.items()}}
        self.texts = {c: [describe(o, rng) for o in said] for c, said in self.said.items()}
        self.hot = hot
        self.outputs = [self._outputs(d, rng) for d in self.district]

    def _seen(self, objects: Sequence[str], share: float, rng: np.random.Generator) -> list[str]:
        """What a describer says who does not know where the model looked: never 石段, and 橋 by habit anywhere."""
        said = [o for o in objects if rng.random() < share and o not in ("石段", "橋")]
        return [*said, "橋"] if rng.random() < (0.45 if "橋" in objects else 0.2) else said

    def _objects(self, district: int, rng: np.random.Generator) -> list[str]:
        own = TYPICAL[DISTRICTS[district]]
        chances = {w: 0.8 if w in own else 0.08 for ws in TYPICAL.values() for w in ws} | dict.fromkeys(PLAIN, 0.35)
        return [w for w in WORDS if rng.random() < chances[w]][:6]

    def _outputs(self, district: int, rng: np.random.Generator) -> list[float]:
        given = rng.dirichlet(np.ones(len(DISTRICTS)) * 0.4) * 0.6
        given[district] += 0.4
        shares: list[float] = given.tolist()
        return shares

    def held(self, control: str) -> dict[str, set[int]]:
        """Word -> numbers of the texts that hold it."""
        found = {w: {i for i, said in enumerate(self.said[control]) if w in said} for w in WORDS}
        return found | {w: {i for i, text in enumerate(self.texts[control]) if w in text} for w in BEHIND}

    def maps(self, ids: Sequence[str]) -> pa.Table:
        """schema.MAPS; photo 2 has a map of zeros, photo 3 failed."""
        rows = []
        for i in (k for k in range(self.count) if self.ids[k] in ids):
            cells = heat([self.spots[i][o] for o in self.hot[i] if o in self.spots[i]])
            failed = {"error_kind": "bad_input", "reason": "no_image"} if i == 3 else {}
            rows.append(
                {
                    "id": self.ids[i],
                    "outputs": self.outputs[i],
                    "explained": int(np.argmax(self.outputs[i])),
                    "map": bytes(SHAPE[0] * SHAPE[1]) if i == 2 else np.rint(cells * 255).astype(np.uint8).tobytes(),
                    "height": SHAPE[0],
                    "width": SHAPE[1],
                    "scale": 0.0 if i == 2 else float(cells.max()),
                    **failed,
                }
            )
        return pa.Table.from_pylist(rows, schema.MAPS)

    def predictions(self, task: str) -> pa.Table:
        rng = np.random.default_rng(5)
        if task == "classification":
            pairs = list(zip(map(float, self.district), self.outputs, strict=True))
        else:
            pairs = [(rent, [0.8 * rent + 1 + rng.normal(0, 0.5)]) for rent in self.rent]
        rows = [
            {"row": i, "id": self.ids[i], "fold": i % 5, "target": target, "outputs": outputs}
            for i, (target, outputs) in enumerate(pairs)
        ]
        return pa.Table.from_pylist(rows, schema.PREDICTIONS)

    def probe(self, control: str, task: str = "classification", target: str = "rent") -> ProbeResults:
        held = self.held(control)
        n = self.count
        if task == "classification":
            rows = class_rows(held, self.district, DISTRICTS)
            share = {"map": 0.85, "random": 0.5, "none": 0.9}[control]
            figures = [
                ("words", "accuracy", share, share - 0.06, share + 0.06),
                ("words, targets permuted", "accuracy", 0.225, 0.15, 0.3),
                ("majority", "accuracy", 0.25, 0.25, 0.25),
            ]
            names = {name: k for k, name in enumerate(DISTRICTS)}

            def fits(row: Mapping[str, Any], i: int) -> bool:
                return self.district[i] == names[row["output"]]
        else:
            rows = number_rows(held, self.rent, target)
            figures = [
                ("words", "r2", 0.52, 0.41, 0.61),
                ("words, targets permuted", "r2", -0.03, -0.1, 0.02),
                ("mean", "r2", 0.0, -0.01, 0.0),
            ]
            middle = float(np.median(self.rent))

            def fits(row: Mapping[str, Any], i: int) -> bool:
                return (self.rent[i] - middle) * row["weight"] > 0

        return ProbeResults(
            table=pa.Table.from_pylist(rows, schema.PROBE),
            scores=scores(figures, n),
            counted=n,
            texts=pa.table({"id": self.ids, "text": self.texts[control]}),
            examples=examples(rows, held, fits) if control == "map" else {},
            subsamples=50,
            text_lang="ja",
        )

    def confusion(self) -> pa.Table:
        counts: dict[tuple[str, str], int] = {}
        for truth, outputs in zip(self.district, self.outputs, strict=True):
            pair = (DISTRICTS[truth], DISTRICTS[int(np.argmax(outputs))])
            counts[pair] = counts.get(pair, 0) + 1
        return pa.Table.from_pylist([{"truth": t, "predicted": p, "count": c} for (t, p), c in counts.items()])

    def calibration(self) -> pa.Table:
        edges = [i / 10 for i in range(11)]
        best = [max(o) for o in self.outputs]
        right = [int(np.argmax(o)) == d for o, d in zip(self.outputs, self.district, strict=True)]
        rows = []
        for low, high in itertools.pairwise(edges):
            mine = [i for i, b in enumerate(best) if low < b <= high]
            rows.append(
                {
                    "bin_low": low,
                    "bin_high": high,
                    "count": len(mine),
                    "confidence": float(np.mean([best[i] for i in mine])) if mine else None,
                    "accuracy": float(np.mean([right[i] for i in mine])) if mine else None,
                }
            )
        return pa.Table.from_pylist(rows)


def faithfulness(count: int = 40) -> pa.Table:
    rng = np.random.default_rng(9)
    rows = [
        {
            "id": photo_id(i),
            "deletion": float(0.3 + rng.normal(0, 0.05)),
            "deletion_random": float(0.5 + rng.normal(0, 0.05)),
            "insertion": float(0.7 + rng.normal(0, 0.05)),
            "insertion_random": float(0.55 + rng.normal(0, 0.05)),
            "randomised": float(rng.uniform(-0.1, 0.3)),
        }
        for i in range(count)
    ]
    failed = [{"id": photo_id(count + i), "error_kind": "bad_input", "reason": "no_map"} for i in range(2)]
    return pa.Table.from_pylist([*rows, *failed], schema.FAITHFULNESS)


def photo_results(
    photos: Photos, *, task: str = "classification", beats: bool = True, target: str = "rent"
) -> PhotoResults:
    n = photos.count
    if task == "classification":
        right = sum(int(np.argmax(o)) == d for o, d in zip(photos.outputs, photos.district, strict=True)) / n
        figures = [
            ("majority", "accuracy", 0.25, 0.25, 0.25),
            ("logistic_colours", "accuracy", 0.4, 0.32, 0.48),
            ("mobilenet_v2", "accuracy", right, right - 0.05, min(right + 0.05, 1.0)),
            ("majority", "macro_f1", 0.1, 0.1, 0.1),
            ("logistic_colours", "macro_f1", 0.38, 0.3, 0.47),
            ("mobilenet_v2", "macro_f1", right - 0.01, right - 0.06, right + 0.04),
            ("mobilenet_v2", "calibration_error", 0.08, 0.05, 0.12),
        ]
        verdict = Verdict(beats, "accuracy", right - 0.4, right - 0.5, right - 0.3, "logistic_colours", "mobilenet_v2")
    else:
        figures = [
            ("mean", "r2", 0.0, -0.02, 0.0),
            ("ridge_colours", "r2", 0.21, 0.1, 0.3),
            ("mobilenet_v2", "r2", 0.63, 0.55, 0.7),
        ]
        verdict = Verdict(beats, "r2", 0.42, 0.33, 0.5, "ridge_colours", "mobilenet_v2")
    images = dict(photos.images)
    del images[photo_id(7)]
    return PhotoResults(
        losses=[
            ("Rows in the manifest", n + 9, ""),
            ("image not found", -6, "fetch: bad_input, http_404"),
            ("Photos predicted", n + 3, ""),
            ("not described", -3, "describe: rejected, empty answer"),
            ("Photos described", n, ""),
        ],
        scores=scores(figures, n),
        verdict=verdict,
        predictions=photos.predictions(task),
        probes={c: photos.probe(c, task, target) for c in ("map", "random", "none")},
        read_images=lambda ids: {i: images[i] for i in ids if i in images},
        read_maps=photos.maps,
        confusion=photos.confusion() if task == "classification" else None,
        calibration=photos.calibration() if task == "classification" else None,
        faithfulness=faithfulness(),
        notes=["2 photos are byte for byte the same as others; they were described once."],
    )
