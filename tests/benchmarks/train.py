"""Fine-tuning steps a second: the article's loop beside ours, on the same captions, batch and optimiser.

python tests/benchmarks/train.py [--quick]

The article pads every caption to 500 tokens, gives the encoder no mask, asks it for its attentions (so that they are
computed the slow way) and waits for each step's loss. The rounds of the two alternate in one process.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import BertConfig, BertModel, get_linear_schedule_with_warmup

from seewhy.train.fit import Recipe, Run, make_optimizer, train_epoch
from seewhy.train.text_model import Encoder, TextFacts, TextModel
from seewhy.train.text_task import TextFolds, TextTask, Tokens

BATCH, PADDED, VOCABULARY = 32, 500, 30_522
SHORTEST, LONGEST = 60, 120  # tokens of a caption, special ones included


@dataclass(frozen=True)
class Size:
    """Attributes: rows: captions in an epoch of ours; steps: of the article's in a round."""

    layers: int
    width: int
    rows: int
    steps: int
    rounds: int

    def encoder(self, attention: str) -> BertModel:
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.width // 32 if self.width < 512 else self.width // 64,
            intermediate_size=4 * self.width,
            attn_implementation=attention,
        )
        torch.manual_seed(0)
        return BertModel(config)


class PaddedTexts(Dataset):  # type: ignore[type-arg]
    def __init__(self, tokens: Tokens, targets: np.ndarray) -> None:
        self.tokens, self.targets = tokens, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        ids = self.tokens.ids[self.tokens.starts[row] : self.tokens.starts[row + 1]].tolist()
        ids += [0] * (PADDED - len(ids))
        target = torch.tensor(self.targets[row], dtype=torch.float)
        return {"input_ids": torch.tensor(ids, dtype=torch.long), "target": target}


class ArticleModel(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.bert = size.encoder("eager")  # the only kind that returns attentions
        self.fc = nn.Linear(size.width, 1)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        output = self.bert(input_ids=input_ids, output_attentions=True)
        assert output["attentions"][0].shape[-1] == PADDED
        return self.fc(output["last_hidden_state"][:, 0, :])


class Article:
    """The article's training, from which `run` takes the next steps."""

    def __init__(self, size: Size, tokens: Tokens, targets: np.ndarray, device: torch.device) -> None:
        self.device = device
        self.model = ArticleModel(size).to(device)
        self.loader = DataLoader(PaddedTexts(tokens, targets), batch_size=BATCH, shuffle=True, drop_last=True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-5)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, 0, 10_000)
        self.loss = nn.MSELoss()

    def run(self, steps: int) -> int:
        self.model.train()
        done = 0
        for batch in self.loader:
            held = {name: value.to(self.device) for name, value in batch.items()}
            self.optimizer.zero_grad()
            loss = self.loss(self.model(held["input_ids"]).squeeze(), held["target"].squeeze())
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            loss.item()
            done += 1
            if done == steps:
                break
        return done


class Ours:
    """An epoch of seewhy's loop at a time."""

    def __init__(self, size: Size, tokens: Tokens, targets: np.ndarray, device: torch.device, bf16: bool) -> None:
        folds = np.ones(len(targets), dtype=np.int32)
        folds[0] = 0  # the training needs a row to hold out; it is not measured
        shared = TextFolds(Encoder("", None, "", PADDED), "first", PADDED, (), tokens, targets, folds, BATCH, 0)
        self.run_facts = Run(TextTask(shared, 0), Recipe(epochs=1000, bf16=bf16), 0, 1, device, None, 1)
        self.model = TextModel(size.encoder("sdpa"), TextFacts()).to(device)
        self.optimizer = make_optimizer(self.run_facts.task, self.model, self.run_facts.recipe)
        self.epoch = 0

    def run(self) -> int:
        self.epoch += 1
        train_epoch(self.run_facts, self.model, self.optimizer, self.epoch)
        return len(self.run_facts.task.train_plan(self.epoch))


def timed(device: torch.device, work: object, *args: int) -> tuple[int, float]:
    started = time.perf_counter()
    steps = work.run(*args)  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.cuda.synchronize()
    return steps, time.perf_counter() - started


def compare(name: str, size: Size, device: torch.device, must: float) -> dict[str, object]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(SHORTEST, LONGEST + 1, size.rows + 1)
    starts = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    tokens = Tokens(rng.integers(1, VOCABULARY, starts[-1]).astype(np.int32), starts, 0, 0)
    targets = rng.normal(size=size.rows + 1)
    article = Article(size, tokens, targets, device)
    ours = Ours(size, tokens, targets, device, bf16=True)
    timed(device, article, 1), timed(device, ours)  # warm-up
    spent = {"article": [0, 0.0], "ours": [0, 0.0]}
    ratios = []
    for _ in range(size.rounds):
        found = {"article": timed(device, article, size.steps), "ours": timed(device, ours)}
        for side, (steps, seconds) in found.items():
            spent[side][0] += steps
            spent[side][1] += seconds
        ratios.append((found["ours"][0] / found["ours"][1]) / (found["article"][0] / found["article"][1]))
    rate = {side: steps / seconds for side, (steps, seconds) in spent.items()}
    return {
        "work": f"fine-tuning steps, {name}, captions of {SHORTEST}-{LONGEST} tokens, batch {BATCH}",
        "beside": f"the article's loop: padded to {PADDED}, attention outputs",
        "ratio": round(rate["ours"] / rate["article"], 2),
        "must": must,
        "seen": {
            "article_steps_per_sec": round(rate["article"], 4),
            "ours_steps_per_sec": round(rate["ours"], 4),
            "article_steps": spent["article"][0],
            "ours_steps": spent["ours"][0],
            "ratio_by_round": [round(ratio, 2) for ratio in ratios],
        },
        "hardware": hardware(device),
    }


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}, ours in bf16, the article's in fp32"
    return f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a smoke run: one short round of a small model")
    quick = parser.parse_args().quick
    small = Size(2, 128, 64, 1, 1) if quick else Size(6, 384, 128, 1, 3)
    results = [compare(f"{small.layers}-layer {small.width}-wide BERT", small, torch.device("cpu"), 4.0)]
    if torch.cuda.is_available():
        large = Size(12, 768, 3200, 30, 1 if quick else 3)
        results.append(compare("12-layer 768-wide BERT", large, torch.device("cuda"), 4.0))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
