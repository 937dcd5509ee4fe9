"""Words of Japanese descriptions counted: ours on two cores beside a plain loop over janome's Tokenizer on one.

python tests/benchmarks/japanese.py [--quick]

Ours is all that a study does: the stage on two workers, their start included, parts on disk, and counts out of those.
The loop is half run before and half behind, so that a machine that changes its speed is noticed. The fast tokenizer is
measured on workers that are up, over the same texts, beside the same loop; what its whole stage takes is in `seen`.
"""

import argparse
import importlib.util
import json
import platform
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import ray
from janome.tokenizer import Tokenizer
from ray.util import ActorPool

from seewhy import schema
from seewhy.ray_cluster import connect
from seewhy.run import Source, run_stage
from seewhy.table import Table
from seewhy.words.counts import count_table
from seewhy.words.lattice import Lattice
from seewhy.words.tokenise import TokeniseWords

CORES = 2
PATTERNS = (
    "{a}{n}の前に{n}が{v}。",
    "{n}と{n}が{n}に沿って並び、{a}{n}が{v}。",
    "奥には{n}や{n}の{n}が見える。",
    "{n}を{v}{n}がいる。",
)
CHARACTERS = 160  # of a description, about
CONTENT = ("名詞", "動詞", "形容詞", "副詞", "連体詞")


def vocabulary(tokenizer: Tokenizer, draw: random.Random) -> dict[str, list[str]]:
    """Nouns, adjectives and verbs as janome's dictionary has them, by lot."""
    last = max(stop for _, stop in tokenizer.sys_dic.bucket_ranges)
    wanted = {"n": ("名詞,一般", 4000), "a": ("形容詞,自立", 300), "v": ("動詞,自立", 600)}
    found: dict[str, list[str]] = {kind: [] for kind in wanted}
    while any(len(found[kind]) < count for kind, (_, count) in wanted.items()):
        number = draw.randrange(last)
        part_of_speech, _, form, *_ = tokenizer.sys_dic.lookup_extra(number)
        for kind, (prefix, count) in wanted.items():
            if part_of_speech.startswith(prefix) and form in ("*", "基本形") and len(found[kind]) < count:
                found[kind].append(tokenizer.sys_dic._find_entry(number)[0])
    return found


def descriptions(count: int, words: dict[str, list[str]], draw: random.Random) -> list[str]:
    """Sentences of words that are the rarer the later they stand in their list (Zipf's law)."""
    weights = {kind: [1 / (rank + 10) for rank in range(len(some))] for kind, some in words.items()}

    def word(kind: str) -> str:
        return draw.choices(words[kind], weights[kind])[0]

    made = []
    for _ in range(count):
        text = ""
        while len(text) < CHARACTERS - 12:
            pattern = draw.choice(PATTERNS)
            for kind in words:
                while f"{{{kind}}}" in pattern:
                    pattern = pattern.replace(f"{{{kind}}}", word(kind), 1)
            text += pattern
        made.append(text)
    return made


def plain_loop(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[float, Counter[str]]:
    """Seconds, and in how many texts each word stands."""
    started = time.perf_counter()
    found: Counter[str] = Counter()
    for text in texts:
        words = [token.base_form for token in tokenizer.tokenize(text) if token.part_of_speech.startswith(CONTENT)]
        found.update(set(words))
    return time.perf_counter() - started, found


def whole_stage(tokenizer: str, texts: Sequence[str]) -> float:
    """Seconds from the texts to their counts."""
    keys = pa.table({"id": [f"{i:032x}" for i in range(len(texts))], "text": list(texts)})
    with tempfile.TemporaryDirectory() as folder:
        table = Table(folder, schema.TOKENS)
        started = time.perf_counter()
        run_stage(TokeniseWords, {"tokenizer": tokenizer}, Source(keys), table, rows_per_block=500, workers=CORES)
        counts = count_table(table, keys["id"])
        seconds = time.perf_counter() - started
    assert counts.matrix.shape[0] == len(texts)
    return seconds


class Actor:
    """A worker of the stage that is told when to begin."""

    def __init__(self, tokenizer: str) -> None:
        self.stage = TokeniseWords(tokenizer=tokenizer)

    def words(self, block: pa.Table) -> int:
        return sum(len(words) for words in self.stage(block)["words"].to_pylist())


def warm_workers(tokenizer: str, texts: Sequence[str]) -> float:
    """Seconds for the words of all texts on workers that have the tokenizer loaded."""
    pool = ActorPool([ray.remote(Actor).remote(tokenizer) for _ in range(CORES)])
    blocks = []
    for start in range(0, len(texts), 1000):
        some = list(texts[start : start + 1000])
        blocks.append(pa.table({"id": [str(start + i) for i in range(len(some))], "text": some}))
    list(pool.map(lambda actor, block: actor.words.remote(block), blocks[: 2 * CORES]))
    started = time.perf_counter()
    assert sum(pool.map(lambda actor, block: actor.words.remote(block), blocks)) > len(texts)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: figures mean nothing")
    count = 400 if parser.parse_args().quick else 20_000
    draw = random.Random(1)
    tokenizer = Tokenizer()
    texts = descriptions(count, vocabulary(tokenizer, draw), draw)
    lattice = Lattice(tokenizer)
    for text in texts[:200]:
        assert [word.base_form for word in lattice(text)] == [token.base_form for token in tokenizer.tokenize(text)]
    connect(num_cpus=CORES, object_store_bytes=200_000_000)
    halves = [plain_loop(tokenizer, texts[: count // 2])]
    ours = whole_stage("janome", texts)
    fast = importlib.util.find_spec("sudachipy") is not None
    quick, cold = (warm_workers("sudachi", texts), whole_stage("sudachi", texts)) if fast else (0.0, 0.0)
    halves.append(plain_loop(tokenizer, texts[count // 2 :]))
    loop = sum(seconds for seconds, _ in halves)
    about = {
        "descriptions": count,
        "characters": round(sum(map(len, texts)) / count),
        "distinct_words": len(halves[0][1] + halves[1][1]),
        "loop_sec": round(loop, 2),
        "loop_halves_sec": [round(seconds, 2) for seconds, _ in halves],
    }
    beside = "a plain loop over janome's Tokenizer, 1 core"
    hardware = f"{platform.machine()}, {CORES} cores"
    rows = [
        {
            "work": f"janome counts of {count} descriptions, stage and counts, {CORES} cores",
            "beside": beside,
            "ratio": round(loop / ours, 2),
            "must": 1.8,
            "seen": {**about, "ours_sec": round(ours, 2)},
            "hardware": hardware,
        },
        {
            "work": f"Sudachi's words of the same descriptions, {CORES} cores, workers up",
            "beside": beside,
            "ratio": round(loop / quick, 2) if fast else None,
            "must": 20,
            "seen": {**about, "ours_sec": round(quick, 2), "whole_stage_sec": round(cold, 2)}
            if fast
            else {"not installed": "seewhy[sudachi]"},
            "hardware": hardware,
        },
    ]
    print(json.dumps(rows, ensure_ascii=False))


if __name__ == "__main__":
    main()
