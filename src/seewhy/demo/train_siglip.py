"""Trains the packaged tiny SigLIP to tell of posters which short texts fit them.

The loss is SigLIP's own (Zhai et al. 2023, arXiv:2303.15343): every text of a batch is held against every image, and
the sigmoid of the logit is pressed towards 1 where they fit and 0 where not. The paper takes a text to fit its own
image alone; with drawn images the truth itself is at hand: "a dog" fits every poster that shows one. The vision tower
begins as that of the packaged tiny VLM, which has learnt to see the same posters; nothing is downloaded. Two linear
heads, on the image's embedding and on every patch, tell the factors beside it and are thrown away: without them the
texts are learnt one factor after the other, and 200 steps teach one.
"""

import json
import math
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel, SiglipProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from seewhy.demo.factors import FACTORS
from seewhy.demo.pictures import PIXELS, draw_pool, pixels
from seewhy.demo.train_seeing import level_indices, one_cycle, shifted

WIDTH, LAYERS, HEADS, TOKENS = 128, 4, 4, 64
VOCABULARY = 700
BATCH, JOINT, FOREIGN = 48, 20, 6
"""A step's posters; texts of several levels; texts of what no poster shows. Every level has one text of its own."""

TEMPLATES = ("{}", "a photo of {}", "a poster of {}", "a poster with {}", "an image of {}", "a picture with {}")

_SAID = {
    "lighting": ("a {} scene", "{} lighting", "a {} image"),
    "palette": ("{} colors", "{} tones", "a {} palette"),
    "place": ("a figure on the {}", "people on the {}", "someone to the {}"),
    "weather": ("{}", "{} in the air", "falling {}"),
    "title": ("{} lettering", "a {} title", "{} letters"),
    "frame": ("a {} layout", "a {} design", "a {} sheet"),
}
"""How a telling word stands in a text; those that are not here are told by `_NOUNS`."""
_NOUNS = {
    "lone": "a lone figure", "solitary": "a solitary figure", "single": "a single person",
    "three": "three people", "trio": "a trio of figures", "group": "a group of people",
    "car": "a car", "automobile": "an automobile", "sedan": "a sedan",
    "dog": "a dog", "hound": "a hound", "puppy": "a puppy",
    "sun": "the sun", "sunburst": "a sunburst", "sunrise": "a sunrise",
    "moon": "the moon", "crescent": "a crescent", "moonrise": "a moonrise",
    "mountains": "mountains", "peaks": "jagged peaks", "ridges": "distant ridges",
    "skyline": "a city skyline", "towers": "tall towers", "skyscrapers": "skyscrapers",
}  # fmt: skip
_FOREIGN = (
    "a cat", "a horse", "a bird", "a boat", "an airplane", "a bicycle", "a train", "a tree", "flowers", "a clock",
    "a bridge", "the sea", "a castle", "food", "a book", "an empty room", "a portrait of a child", "a robot",
)  # fmt: skip

LEVELS = [(factor, level) for factor in FACTORS for level in FACTORS[factor].levels]


def phrase(factor: str, level: str, rng: np.random.Generator) -> str:
    """One of the ways to say that level."""
    words = FACTORS[factor].words[level]
    word = words[rng.integers(len(words))]
    said = _SAID.get(factor)
    return _NOUNS[word] if said is None else said[rng.integers(len(said))].format(word)


def level_text(factor: str, level: str) -> str:
    """The plainest way to say that level: what the figures at the end are of."""
    word = FACTORS[factor].words[level][0]
    return _NOUNS[word] if factor not in _SAID else _SAID[factor][0].format(word)


def texts_of_a_step(rng: np.random.Generator) -> tuple[list[str], list[dict[str, str]]]:
    """Texts, and the levels that each of them claims; none for what no poster shows."""
    claims = [{factor: level} for factor, level in LEVELS]
    for _ in range(JOINT):
        names = rng.permutation(list(FACTORS))[: rng.integers(2, 4)].tolist()
        claims.append({name: FACTORS[name].levels[rng.integers(2)] for name in names})
    texts = [" and ".join(phrase(name, level, rng) for name, level in claim.items()) for claim in claims]
    texts += [_FOREIGN[place] for place in rng.permutation(len(_FOREIGN))[:FOREIGN]]
    return [TEMPLATES[rng.integers(len(TEMPLATES))].replace("{}", text) for text in texts], claims + [{}] * FOREIGN


def fits(drawn: torch.Tensor, claims: list[dict[str, str]]) -> torch.Tensor:
    """(N, factors) indices of levels and T claims -> (N, T) bool: all that is claimed is there, and something is."""
    columns = []
    for claim in claims:
        right = torch.full((len(drawn),), bool(claim))
        for name, level in claim.items():
            right &= drawn[:, list(FACTORS).index(name)] == FACTORS[name].levels.index(level)
        columns.append(right)
    return torch.stack(columns, dim=1)


def build_tokenizer(rng: np.random.Generator) -> PreTrainedTokenizerFast:
    """A byte-level BPE of lower-case text that ends with ``</s>`` and has no mask, as SigLIP's has none."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for _ in range(300) for text in texts_of_a_step(rng)[0]], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        padding_side="right",
        model_max_length=TOKENS,
        model_input_names=["input_ids"],
        clean_up_tokenization_spaces=False,
    )


def build_model(vocabulary: int) -> SiglipModel:
    """A SiglipModel of 1.4M parameters: ViT 4x128, text 2x128."""
    wide = {"hidden_size": WIDTH, "num_attention_heads": HEADS}
    vision = {**wide, "num_hidden_layers": LAYERS, "intermediate_size": 512, "image_size": PIXELS, "patch_size": 12}
    text = {**wide, "num_hidden_layers": 2, "intermediate_size": 256, "max_position_embeddings": TOKENS}
    ids = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    model = SiglipModel(SiglipConfig(text_config=text | ids, vision_config=vision | {"hidden_act": "gelu"}))
    nn.init.constant_(model.logit_scale, math.log(10))  # as the paper begins; its bias is for far rarer pairs
    nn.init.constant_(model.logit_bias, -1.0)
    return model


@torch.no_grad()
def see_as_the_vlm(model: SiglipModel, weights: dict[str, torch.Tensor]) -> None:
    """Copies the vision tower of a BLIP-2 of the same size; its class token has no counterpart."""
    inner = {name.removeprefix("vision_model."): one for name, one in weights.items() if name.startswith("vision")}
    found = {}
    for name, one in inner.items():
        if "qkv" in name:
            for part, piece in zip(("q_proj", "k_proj", "v_proj"), one.chunk(3), strict=True):
                found[name.replace("qkv", part)] = piece
        elif name == "embeddings.position_embedding":
            found["embeddings.position_embedding.weight"] = one[0, 1:]
        elif name != "embeddings.class_embedding":
            found[name.replace("projection", "out_proj")] = one
    missing, surplus = model.vision_model.load_state_dict({k: v.float() for k, v in found.items()}, strict=False)
    lost = [name for name in missing if not name.startswith("head.") and not name.endswith("position_ids")]
    if lost or surplus:
        raise ValueError(f"the towers differ: {lost[:3]} {surplus[:3]}")


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return functional.normalize(vectors.float(), dim=-1)


def embed_texts(model: SiglipModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    ids = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")["input_ids"]
    return unit(model.get_text_features(input_ids=ids).pooler_output)


@torch.no_grad()
def areas(
    model: SiglipModel, tokenizer: PreTrainedTokenizerFast, pool: torch.Tensor, drawn: list[dict[str, str]]
) -> dict[str, float]:
    """Factor -> the smaller area under the ROC curve of its two levels' texts (0.5 is chance)."""
    images = torch.cat(
        [unit(model.get_image_features(pixel_values=pixels(part)).pooler_output) for part in pool.split(100)]
    )
    logits = images @ embed_texts(model, tokenizer, [level_text(*level) for level in LEVELS]).T
    truth = fits(level_indices(drawn), [{factor: level} for factor, level in LEVELS])
    found: dict[str, float] = {}
    for place, (factor, _) in enumerate(LEVELS):
        yes, no = logits[truth[:, place], place], logits[~truth[:, place], place]
        area = ((yes[:, None] > no).float() + 0.5 * (yes[:, None] == no).float()).mean().item()
        found[factor] = min(area, found.get(factor, 1.0))
    return found


def train_siglip(folder: Path, *, seed: int, posters: int, steps: int) -> None:
    """Draws, trains, saves to `folder`, loads it again and prints its figures on fresh draws last."""
    torch.manual_seed(seed)
    rng, start = np.random.default_rng(seed), time.monotonic()
    pool, drawn = draw_pool(posters, rng)
    truth = level_indices(drawn)
    print(f"drew {posters} posters in {time.monotonic() - start:.0f}s", flush=True)
    tokenizer = build_tokenizer(rng)
    model = build_model(len(tokenizer))
    see_as_the_vlm(model, load_file(str(files("seewhy.demo") / "tiny_vlm" / "model.safetensors")))
    fresh = draw_pool(300, rng)
    told = nn.ModuleList([nn.Linear(WIDTH, len(FACTORS)) for _ in range(2)])
    seeing = list(model.vision_model.encoder.parameters())
    weights = [*model.parameters(), *told.parameters()]
    known = set(seeing)
    groups = [{"params": seeing, "lr": 3e-4}, {"params": [one for one in weights if one not in known], "lr": 2e-3}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = one_cycle(optimizer, steps)
    for step in range(steps):
        rows = torch.from_numpy(rng.integers(len(pool), size=BATCH))
        texts, claims = texts_of_a_step(rng)
        seen = model.get_image_features(pixel_values=shifted(pixels(pool[rows]), rng))
        logits = (
            unit(seen.pooler_output) @ embed_texts(model, tokenizer, texts).T * model.logit_scale.exp()
            + model.logit_bias
        )
        loss = functional.binary_cross_entropy_with_logits(logits, fits(truth[rows], claims).float())
        levels = truth[rows].float()
        for head, one in zip(told, (seen.pooler_output, seen.last_hidden_state), strict=True):
            levels = levels if one.ndim == 2 else levels[:, None].expand(-1, one.shape[1], -1)
            loss = loss + functional.binary_cross_entropy_with_logits(head(one), levels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            print(f"{step + 1} {time.monotonic() - start:.0f}s loss {loss.item():.3f} {_line(model, tokenizer, fresh)}")
    save(model, tokenizer, folder)
    print(f"trained in {(time.monotonic() - start) / 60:.1f} minutes", flush=True)
    loaded = SiglipModel.from_pretrained(folder)
    print(_line(loaded, tokenizer, draw_pool(500, np.random.default_rng(seed + 1_000_003))), flush=True)


def _line(
    model: SiglipModel, tokenizer: PreTrainedTokenizerFast, fresh: tuple[torch.Tensor, list[dict[str, str]]]
) -> str:
    return " ".join(f"{name} {area:.3f}" for name, area in areas(model, tokenizer, *fresh).items())


def save(model: SiglipModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Weights as fp16 on disk; the configuration says fp32, which is what `from_pretrained` makes of them."""
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        part["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    images = SiglipImageProcessorPil(
        size={"height": PIXELS, "width": PIXELS}, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
    )
    SiglipProcessor(images, tokenizer).save_pretrained(folder)
