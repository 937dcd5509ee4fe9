"""The packaged tiny BERT: knows the captions' language, and few ratings teach it the rest."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertModel

import seewhy.demo
from seewhy.demo.captions import caption
from seewhy.demo.factors import FACTORS, MATCH, ceiling, draw_factors, rating
from seewhy.demo.train_encoder import mask_tokens, mean_pooled, meaning

FOLDER = Path(seewhy.demo.__file__).parent / "tiny_encoder"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


def draw(count, seed):
    rng = np.random.default_rng(seed)
    drawn = [draw_factors(rng) for _ in range(count)]
    texts = [caption(factors, rng) for factors in drawn]
    return drawn, texts, torch.tensor([rating(factors, rng) for factors in drawn], dtype=torch.float32)


def test_masked_words_are_guessed(tokenizer):
    encoded = tokenizer(draw(200, seed=31)[1], padding=True, return_tensors="pt")
    ids, labels = mask_tokens(encoded["input_ids"], torch.full((200,), 0.15), torch.Generator().manual_seed(0))
    model = AutoModelForMaskedLM.from_pretrained(FOLDER).eval()
    with torch.no_grad():
        guesses = model(input_ids=ids, attention_mask=encoded["attention_mask"]).logits.argmax(-1)
    hit = labels != -100
    commonest = labels[hit].bincount().max() / hit.sum()
    assert (guesses[hit] == labels[hit]).float().mean() > max(0.6, 4 * commonest)


def test_telling_words_are_whole_and_any_text_is_read(tokenizer):
    for factor in FACTORS.values():
        for words in factor.words.values():
            assert [tokenizer.tokenize(word) for word in words] == [[word] for word in words]
    assert tokenizer.tokenize("Zeppelin")[0].startswith("z")
    assert tokenizer.unk_token_id in tokenizer("犬")["input_ids"]
    assert len(tokenizer) <= 2000
    assert None not in (tokenizer.mask_token, tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token)


def test_meaning_by_hand():
    told = torch.zeros(1, len(FACTORS), 2)
    told[0, 0, 1] = told[0, 1, 0] = told[0, 3, 0] = 1  # the second level of factor 0, the first ones of 1 and 3
    vector = meaning(told)[0]
    assert vector.shape == (128,)
    assert vector[:10].tolist() == [1, -1, 0, -1, 0, 0, 0, 0, 0, 0]
    # Products follow as (0, 1), (0, 2), (0, 3) ..., nine with factor 0, then (1, 2), (1, 3) ...
    assert vector[10:13].tolist() == [-1, 0, -1]
    assert vector[19:21].tolist() == [0, 1]
    assert vector.abs().sum() == 6


def test_only_ordinary_tokens_are_masked():
    ids = torch.tensor([[2, 40, 41, 3, 0], [2, 40, 41, 42, 3]])
    masked, labels = mask_tokens(ids, torch.tensor([1.0, 0.0]))
    assert masked.tolist() == [[2, 4, 4, 3, 0], [2, 40, 41, 42, 3]]
    assert labels.tolist() == [[-100, 40, 41, -100, -100], [-100] * 5]


def test_mean_leaves_pads_out():
    hidden = torch.tensor([[[1.0], [3.0], [50.0]]])
    assert mean_pooled(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0]]


def fine_tuned(encoded, target, rows, epochs):
    """A linear head on the mean of the tokens, all weights trained: what a text study does, in short."""
    torch.manual_seed(0)
    model, head = AutoModel.from_pretrained(FOLDER), torch.nn.Linear(128, 1)
    assert isinstance(model, BertModel)
    torch.nn.init.constant_(head.bias, float(target[rows].mean()))
    weights = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=epochs * (len(rows) // 32 + 1))

    def predict(part):
        mask = encoded["attention_mask"][part]
        hidden = model(input_ids=encoded["input_ids"][part], attention_mask=mask).last_hidden_state
        return head(mean_pooled(hidden, mask))[:, 0]

    for _ in range(epochs):
        for part in rows[torch.randperm(len(rows))].split(32):
            loss = (predict(part) - target[part]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
    return predict


LEARNING_RATE = 3e-4


def test_480_ratings_teach_effects_and_the_interaction(tokenizer):
    drawn, texts, target = draw(780, seed=77)
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    predict = fine_tuned(encoded, target, torch.arange(480), epochs=10)
    fresh = torch.arange(480, 780)
    with torch.no_grad():
        guesses = predict(fresh)
    spread = (target[fresh] - target[fresh].mean()).square().sum()
    assert 1 - (guesses - target[fresh]).square().sum() / spread > ceiling() - 0.1
    agree = torch.tensor([1.0 if (row["lighting"] == "dark") == (row["sky"] == "moon") else -1.0 for row in drawn])
    found = (guesses * agree[fresh]).mean() - guesses.mean() * agree[fresh].mean()
    assert found > MATCH / 2
