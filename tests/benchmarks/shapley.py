"""Shapley values of captions: seewhy.shapley beside shap.Explainer with the function that a notebook would give it.

    python tests/benchmarks/shapley.py [--quick] [--captions N] [--max-evals N]

The notebook's function encodes each masked text with padding to 500 tokens and runs the texts that shap hands over as
one batch, without an attention mask. Padding thereby changes its outputs, so the values are compared with shap over
the same model under a mask; the speed is compared with both. The model's attention outputs, which the notebook also
asked for, are left out of the baseline: they would only slow it down further.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import numpy as np
import shap
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging

from seewhy.shapley import owen_values, text_predict

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = 30522
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def wordpiece(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """As large as BERT's: every word, every letter and letter inside a word, filled up with word ends."""
    pieces = [*SPECIAL, ".", ",", *LETTERS, *("##" + letter for letter in LETTERS), *words]
    pieces += [f"##{a}{b}{c}" for a in LETTERS for b in LETTERS for c in LETTERS]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces).keys()) if i < VOCABULARY}
    core = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")]
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    return PreTrainedTokenizerFast(
        tokenizer_object=core, **{f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    )


def make_words(rng: np.random.Generator, count: int) -> list[str]:
    letters = np.array(list(LETTERS))
    return ["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(count)]


def make_captions(rng: np.random.Generator, tokenizer: Any, words: Sequence[str], count: int) -> list[str]:
    """Sentences of words, one in twenty unknown to the tokenizer, with commas: 60 to 120 tokens a caption."""
    captions: list[str] = []
    while len(captions) < count:
        sentences = []
        for _ in range(rng.integers(3, 7)):
            chosen = [w if rng.random() > 0.05 else w + w for w in rng.choice(words, rng.integers(8, 20))]
            chosen[len(chosen) // 2] += ","
            sentences.append(" ".join(chosen).capitalize() + ".")
        text = " ".join(sentences)
        if 60 <= len(tokenizer(text)["input_ids"]) <= 120:
            captions.append(text)
    return captions


class Regressor(torch.nn.Module):
    """A BERT of random weights with a number read from its first token."""

    def __init__(self, *, layers: int, width: int, heads: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            initializer_range=0.06,  # at BERT's own 0.02 an untrained output hardly depends on the text
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        self.head = torch.nn.Linear(width, 1)
        self.eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.head(hidden[:, 0])


def notebook_function(model: Any, tokenizer: Any, device: str) -> Callable[[Sequence[str]], torch.Tensor]:
    def f(texts: Sequence[str]) -> torch.Tensor:
        ids = [tokenizer.encode(text, max_length=500, padding="max_length", truncation=True) for text in texts]
        with torch.no_grad():
            return model(torch.tensor(ids).to(device)).detach().cpu()

    return f


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock, seconds of processor time, which a busy machine does not stretch, and the result."""
    started, used = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - started, time.process_time() - used, result


def compare(
    *,
    work: str,
    layers: int,
    width: int,
    heads: int,
    device: str,
    must: float,
    captions: int,
    max_evals: int,
    rounds: int,
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    words = make_words(rng, 25_000)
    tokenizer = wordpiece(words)
    texts = make_captions(rng, tokenizer, words, captions)
    model = Regressor(layers=layers, width=width, heads=heads).to(device)
    masked = text_predict(model, tokenizer, device=device, max_length=500)
    explainers = {
        "shap_padded_to_500": shap.Explainer(notebook_function(model, tokenizer, device), tokenizer),
        "shap_masked": shap.Explainer(lambda strings: masked([str(s) for s in strings]), tokenizer),
    }
    sides: dict[str, Callable[[], Any]] = {
        name: lambda explainer=explainer: explainer(texts, max_evals=max_evals, silent=True)
        for name, explainer in explainers.items()
    }
    sides["seewhy"] = lambda: owen_values(texts, predict=masked, tokenizer=tokenizer, max_evals=max_evals)
    for explainer in explainers.values():  # compiles what shap compiles, warms the device
        explainer(texts[:1], max_evals=12, silent=True)
    owen_values(texts, predict=masked, tokenizer=tokenizer, max_evals=12)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for name, side in sides.items():
            spent, used, found[name] = timed(side)
            seconds[name].append(round(spent, 2))
            cpu_seconds[name].append(round(used, 2))
    evaluations = sum(row.evaluations for row in found["seewhy"])
    best, least = ({name: min(times) for name, times in kind.items()} for kind in (seconds, cpu_seconds))
    return {
        "work": work,
        "beside": "shap.Explainer with the article's f (padding to 500)",
        "ratio": round(best["shap_padded_to_500"] / best["seewhy"], 2),
        "must": must,
        "seen": {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "evaluations": evaluations,
            "evaluations_per_sec": {name: round(evaluations / spent, 1) for name, spent in best.items()},
            "ratio_by_cpu_seconds": round(least["shap_padded_to_500"] / least["seewhy"], 2),
            "ratio_beside_shap_masked": round(best["shap_masked"] / best["seewhy"], 2),
            "captions": captions,
            "tokens": [len(tokenizer(text)["input_ids"]) for text in texts][:20],
            "max_evals": max_evals,
            **differences(found),
        },
        "hardware": hardware(device),
    }


def differences(found: dict[str, Any]) -> dict[str, float]:
    """Of the values: from shap over the same masked model; from the notebook's, whose model reads the padding."""

    def furthest(side: str) -> float:
        rows = zip(found["seewhy"], found[side].values, strict=True)
        return max(float(np.abs(row.values - np.asarray(values, dtype=float)).max()) for row, values in rows)

    return {
        "max_difference_from_shap_masked": furthest("shap_masked"),
        "max_difference_from_shap_padded_to_500": furthest("shap_padded_to_500"),
        "largest_value": max(float(np.abs(row.values).max()) for row in found["seewhy"]),
        "max_residual": max(row.residual for row in found["seewhy"]),
    }


def hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    name = names[0].split(":")[1].strip() if names else platform.processor()
    return f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its ratio says little")
    parser.add_argument("--captions", type=int)
    parser.add_argument("--max-evals", type=int)
    asked = parser.parse_args()
    logging.set_verbosity_error()
    captions, max_evals, rounds = (2, 20, 1) if asked.quick else (6, 120, 2)
    work = "Shapley values, {} BERT, captions of 60-120 tokens"
    found = [
        compare(
            work=work.format("6-layer 384-wide"),
            layers=6,
            width=384,
            heads=12,
            device="cpu",
            must=4.5,
            captions=asked.captions or captions,
            max_evals=asked.max_evals or max_evals,
            rounds=rounds,
        )
    ]
    if torch.cuda.is_available():
        found.append(
            compare(
                work=work.format("base, on a GPU,"),
                layers=12,
                width=768,
                heads=12,
                device="cuda",
                must=40,
                captions=asked.captions or (8 if asked.quick else 64),
                max_evals=asked.max_evals or (20 if asked.quick else 500),
                rounds=1,
            )
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
