"""Third step of training the tiny VLM: answering questions, by itself and in a conversation.

It begins from the weights that the first two steps saved and moves the projection and the language model alone, as the
second does: the query outputs hold all that is asked for. Captions and descriptions go on beside the questions, in
every step, so that they are not forgotten. A question stands in BLIP-2's own form, ``Question: ... Answer:``; any
other prompt is answered with a caption or a description, as before.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerFast

from seewhy.demo.pictures import Photos
from seewhy.demo.questions import photo_conversation, poster_conversation
from seewhy.demo.train_seeing import one_cycle
from seewhy.demo.train_speaking import Seen, draw_prompt, speaking_batch

TOLD = (10, 12, 4)
"""Posters, photos under maps and photos alone of a step that are captioned and described."""
ASKED = (48, 12)
"""Posters and photos of a step that are asked about."""


def train_answering(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    seen: tuple[Seen, Seen, Seen],
    drawn: Sequence[dict[str, str]],
    photos: Photos,
    *,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """A step: one batch of captions and descriptions as in the second step, and one of questions; losses added."""
    weights = [*model.language_projection.parameters(), *model.language_model.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.05)
    schedule, start = one_cycle(optimizer, steps), time.monotonic()
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    places = model.config.num_query_tokens
    for step in range(steps):
        texts, queries = [], []
        for kind, count in zip(seen, TOLD, strict=True):
            rows = rng.integers(len(kind.said), size=count)
            texts += [kind.text(row, rng) for row in rows]
            queries.append(kind.queries[torch.from_numpy(rows)])
        prompt = draw_prompt(rng)
        telling = speaking_batch(tokenizer, texts, [prompt] * len(texts), places)
        of_posters, of_photos = rng.integers(len(drawn), size=ASKED[0]), rng.integers(len(photos), size=ASKED[1])
        pairs = [poster_conversation(drawn[row], rng) for row in of_posters]
        pairs += [photo_conversation(photos.scenes[row], rng) for row in of_photos]
        asking = speaking_batch(tokenizer, [answer for _, answer in pairs], [asked for asked, _ in pairs], places)
        looked = torch.cat(
            [seen[0].queries[torch.from_numpy(of_posters)], seen[2].queries[torch.from_numpy(of_photos)]]
        )
        told = _loss(model, torch.cat(queries), *telling)
        answered = _loss(model, looked, *asking)
        optimizer.zero_grad()
        (told + answered).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            losses = f"told {told.item():.4f} answered {answered.item():.4f}"
            print(f"answer {step + 1} {time.monotonic() - start:.0f}s {losses}", flush=True)
    model.set_attn_implementation(usual)


def _loss(
    model: Blip2ForConditionalGeneration, queries: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        image = model.language_projection(queries)
        embeds = torch.cat([image.float(), model.get_input_embeddings()(ids[:, image.shape[1] :])], dim=1)
        return model.language_model(inputs_embeds=embeds, attention_mask=(ids != 0).long(), labels=labels).loss
