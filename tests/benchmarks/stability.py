"""Stability selection: ours on two cores beside a loop over scikit-learn's liblinear on one; and its memory.

python tests/benchmarks/stability.py [--quick]

Both sides fit the same halves under the same penalty, and must choose the same words to the last. Both have done a
first fit before the clock starts. The loop is half run before and half behind, so that a machine that changes its speed
is noticed. Memory is that of fresh processes over one, four and sixteen times the subsamples.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from seewhy.ray_cluster import connect
from seewhy.tasks import map_tasks
from seewhy.words.linear import largest_penalty
from seewhy.words.stability import Stability, half_of_groups, stability_selection

CORES = 2
CLASSES, TEXTS, WORDS, LENGTH = 7, 3000, 5000, 160
SUBSAMPLES = 100
PENALTY = 0.12  # of the largest: about sqrt(0.8 * 5,000) words a class
SEED = 42


def made() -> tuple[sparse.csr_matrix, np.ndarray]:
    """Texts of about 160 words of a long-tailed vocabulary, each class with 20 words that it uses three times as often.

    Returns:
        (N, V) float64 of 0 and 1, and (N,) classes.
    """
    rng = np.random.default_rng(0)
    shares = 1 / (np.arange(WORDS) + 10.0)
    target = rng.integers(CLASSES, size=TEXTS)
    rows = []
    for _ in range(CLASSES):
        of_class = shares.copy()
        of_class[rng.choice(np.arange(100, 2000), 20, replace=False)] *= 3
        rows.append(of_class / of_class.sum())
    columns = np.concatenate([rng.choice(WORDS, LENGTH, p=rows[one]) for one in target])
    x = sparse.csr_matrix((np.ones(len(columns)), columns, np.arange(TEXTS + 1) * LENGTH), shape=(TEXTS, WORDS))
    x.sum_duplicates()
    x.data[:] = 1.0
    return x, target.astype(float)


def loop(x: sparse.csr_matrix, target: np.ndarray, penalty: float, numbers: range) -> tuple[float, np.ndarray]:
    """Seconds, and (2, K, V) how often each word has a weight above and below 0."""
    started = time.perf_counter()
    found = np.zeros((2, CLASSES, x.shape[1]))
    for number in numbers:
        rows = half_of_groups(np.arange(len(target)), number, seed=SEED)
        some, classes = x[rows], target[rows]
        for one in range(CLASSES):
            model = LogisticRegression(
                l1_ratio=1.0,
                solver="liblinear",
                C=1 / (penalty * len(rows)),
                intercept_scaling=100.0,
                max_iter=1000,
                random_state=0,
            ).fit(some, classes == one)
            found[0, one] += model.coef_[0] > 0
            found[1, one] += model.coef_[0] < 0
    return time.perf_counter() - started, found


def ours(x: sparse.csr_matrix, target: np.ndarray, penalty: float, subsamples: int) -> tuple[float, Stability]:
    started = time.perf_counter()
    found = stability_selection(
        x,
        target,
        groups=np.arange(len(target)),
        method="one_vs_rest",
        outputs=CLASSES,
        penalty=penalty,
        subsamples=subsamples,
        seed=SEED,
    )
    return time.perf_counter() - started, found


def peak_bytes(_item: int = 0, _shared: None = None) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def prepared() -> tuple[sparse.csr_matrix, np.ndarray, float]:
    connect(num_cpus=CORES, object_store_bytes=200_000_000)
    x, target = made()
    return x, target, PENALTY * largest_penalty(x, target, outputs=CLASSES)


def speed(subsamples: int) -> dict[str, object]:
    x, target, penalty = prepared()
    loop(x, target, penalty, range(1)), ours(x, target, penalty, 4 * CORES)  # everything is imported, workers are up
    first, above_below = loop(x, target, penalty, range(subsamples // 2))
    seconds, found = ours(x, target, penalty, subsamples)
    second, rest = loop(x, target, penalty, range(subsamples // 2, subsamples))
    wanted = (above_below + rest) / subsamples
    same = bool(np.array_equal(wanted[0], found.above) and np.array_equal(wanted[1], found.below))
    assert same, "the words chosen differ from liblinear's"
    return {
        "work": f"stability selection, {CLASSES} classes x {subsamples} subsamples, {TEXTS} x {WORDS}, {CORES} cores",
        "beside": "a loop over scikit-learn's liblinear, 1 core",
        "ratio": round((first + second) / seconds, 2),
        "must": 1.8,
        "seen": {
            "loop_sec": round(first + second, 2),
            "loop_halves_sec": [round(first, 2), round(second, 2)],
            "ours_sec": round(seconds, 2),
            "loop_sec_per_fit": round((first + second) / (subsamples * CLASSES), 4),
            "words_per_fit": round(float(found.chosen.mean()), 1),
            "same_words": same,
        },
        "hardware": f"{platform.machine()}, {CORES} cores",
    }


def memory(sizes: list[int]) -> list[dict[str, object]]:
    seen = {}
    for size in sizes:
        command = [sys.executable, __file__, "--measure", str(size)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seen[f"{size} subsamples"] = json.loads(done.stdout.strip().splitlines()[-1])
    rows = []
    for who in ("driver", "worker"):
        peaks = [one[who] for one in seen.values()]
        rows.append(
            {
                "work": f"memory of stability selection, {who}",
                "beside": "1x, 4x, 16x the subsamples",
                "ratio": round(max(peaks) / min(peaks), 3),
                "must": "at most 1.2",
                "seen": {name: one[who] for name, one in seen.items()},
                "hardware": f"{platform.machine()}, CPU",
            }
        )
    return rows


def measure(subsamples: int) -> dict[str, int]:
    """Peak resident bytes of this process, and of the largest worker."""
    x, target, penalty = prepared()
    ours(x, target, penalty, subsamples)
    return {"driver": peak_bytes(), "worker": max(map_tasks(peak_bytes, range(8 * CORES), shared=None))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: figures mean nothing")
    parser.add_argument("--measure", type=int, metavar="SUBSAMPLES", help="print this process's peaks and end")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    sizes = [2, 8] if given.quick else [SUBSAMPLES // 4, SUBSAMPLES, SUBSAMPLES * 4]
    print(json.dumps([speed(4 if given.quick else SUBSAMPLES), *memory(sizes)]))


if __name__ == "__main__":
    main()
