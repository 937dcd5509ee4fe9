"""SigLIP, SigLIP 2 and CLIP small enough to make in a test: random weights, real configurations and files."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

SPECIAL = ["<pad>", "<s>", "<unk>", "</s>"]
"""The end is not 2, which stands for a mistake of old files: CLIP would take the largest id for it."""
WORDS = ["a", "photo", "of", "picture", "with", "cat", "dog", "rose", "pink", "red", "blue", "car", "sea"]
WORDS += ["DOG", "薔薇", "卵"]
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(*, length: int, clip: bool = False) -> PreTrainedTokenizerFast:
    """One token a word, ``</s>`` at the end; for CLIP ``<s>`` before it, which is what its model goes by."""
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    ends = [("<s>", 1), ("</s>", 3)]
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if clip else "$A </s>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="right",
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"] if clip else ["input_ids"],
    )


def letters() -> Siglip2Tokenizer:
    """One token a letter: whatever class its files name, transformers reads them for SigLIP 2 as this one."""
    known = sorted({letter for word in WORDS for letter in word.lower()})
    vocabulary = {one: i for i, one in enumerate([*SPECIAL, "<mask>", "▁", *known])}
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    options = {"padding_side": "right", "model_max_length": 64, "model_input_names": ["input_ids"]}
    return Siglip2Tokenizer(vocab=vocabulary, merges=[], add_eos_token=True, **names, **options)


def siglip(folder: Path) -> None:
    words = tokenizer(length=64)
    config = SiglipConfig(text_config=_text(words, 64), vision_config={**SMALL, "image_size": 32, "patch_size": 8})
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    torch.manual_seed(0)
    _save(SiglipModel(config), SiglipProcessor(images, words), folder)


def siglip2(folder: Path) -> None:
    """With as many patches an image as its shape asks for, up to 16."""
    words = letters()
    config = Siglip2Config(text_config=_text(words, 64), vision_config={**SMALL, "num_patches": 16, "patch_size": 8})
    images = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    torch.manual_seed(0)
    _save(Siglip2Model(config), Siglip2Processor(images, words), folder)


def clip(folder: Path) -> None:
    words = tokenizer(length=77, clip=True)
    config = CLIPConfig(
        text_config=_text(words, 77),
        vision_config={**SMALL, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    torch.manual_seed(0)
    _save(CLIPModel(config), CLIPProcessor(images, words), folder)


def _text(words: PreTrainedTokenizerFast, length: int) -> dict[str, object]:
    ids = {"vocab_size": len(words), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    return {**SMALL, **ids, "max_position_embeddings": length}


def _save(network: torch.nn.Module, processor: object, folder: Path) -> None:
    """Weights drawn wide, so that what the model says depends on picture and text; scale and bias as trained ones."""
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() > 1:
                weights.normal_(std=1.5 * weights.shape[-1] ** -0.5)
        network.logit_scale.fill_(3.0)
        if hasattr(network, "logit_bias"):
            network.logit_bias.fill_(-2.3)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


MAKERS = {"siglip": siglip, "siglip2": siglip2, "clip": clip}
