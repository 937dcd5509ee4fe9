"""Vision-language models small enough to make in a test: random weights, real configurations, processors and files.

The weights are drawn wide, so that what the model writes depends on the picture, and every folder loads through
``from_pretrained`` as a model from a hub does.
"""

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    CLIPImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

TEXT = """
    a the sky sea dog man woman city night sun red blue dark bright poster with and under over calm tense big small old
    new tree road house car rain snow light shadow near far what is this say one two more question answer
"""
WORDS = TEXT.split()
SPECIAL = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "<image>",
    "<fake_token_around_image>",
    "<end_of_utterance>",
    "<global-img>",
]
GRID = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]

CHAT_TEMPLATE = (
    "<s>{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %} <image> {% else %} {{ part['text'] }} {% endif %}"
    "{% endfor %}<end_of_utterance>{% endfor %}{% if add_generation_prompt %} answer {% endif %}"
)


def picture(seed: int, width: int = 40, height: int = 48) -> bytes:
    """A PNG of random blocks: pictures of different seeds have little in common."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def tokenizer(*, start: bool, pad: bool = True) -> PreTrainedTokenizerFast:
    """One token a word. `start` puts ``<s>`` before every text, as an OPT's tokenizer does."""
    vocabulary = {word: place for place, word in enumerate(SPECIAL + GRID + WORDS)}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()
    inner.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    inner.add_tokens([AddedToken(word, normalized=False) for word in GRID])
    if start:
        inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | ({"pad_token": "<pad>"} if pad else {})
    return PreTrainedTokenizerFast(tokenizer_object=inner, **named)


def blip2_opt(folder: Path) -> None:
    text = {
        "model_type": "opt",
        "vocab_size": len(tokenizer(start=True)),
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    _blip2(folder, text, start=True)


def blip2_t5(folder: Path) -> None:
    text = {
        "model_type": "t5",
        "vocab_size": len(tokenizer(start=False)),
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 2,
        "pad_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
    }
    _blip2(folder, text, start=False)


def _blip2(folder: Path, text: dict[str, object], *, start: bool) -> None:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config={**small, "image_size": 32, "patch_size": 8},
        qformer_config={**small, "encoder_hidden_size": 32, "vocab_size": 8},
        text_config=text,
        num_query_tokens=4,
        image_token_index=SPECIAL.index("<image>"),
    )
    processor = Blip2Processor(
        BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer(start=start), num_query_tokens=4
    )
    torch.manual_seed(0)
    _save(Blip2ForConditionalGeneration(config), processor, folder)


def wide_llava(folder: Path) -> None:
    """As `llava`, with heads as wide as the kernels of a GPU want them."""
    llava(folder, hidden_size=128)


def llava(folder: Path, hidden_size: int = 32) -> None:
    """Every picture becomes 16 tokens; the tokenizer has no padding token."""
    words = tokenizer(start=True, pad=False)
    config = LlavaConfig(
        vision_config=_VISION | {"model_type": "clip_vision_model", "projection_dim": 32, "hidden_size": hidden_size},
        text_config=_LLAMA | {"vocab_size": len(words), "hidden_size": hidden_size},
        image_token_index=SPECIAL.index("<image>"),
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(1)
    _save(LlavaForConditionalGeneration(config), processor, folder)


def idefics3(folder: Path) -> None:
    """A picture becomes as many tiles as its shape asks for, so the rows of a batch differ in length."""
    words = tokenizer(start=False)
    config = Idefics3Config(
        vision_config=_VISION | {"model_type": "idefics3_vision"},
        text_config=_LLAMA | {"vocab_size": len(words)},
        image_token_id=SPECIAL.index("<image>"),
        scale_factor=2,
    )
    processor = Idefics3Processor(
        Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        words,
        image_seq_len=4,
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(2)
    _save(Idefics3ForConditionalGeneration(config), processor, folder)


_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
_LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _save(network: torch.nn.Module, processor: object, folder: Path) -> None:
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if weights.dim() > 1 or "query_tokens" in name:
                weights.normal_(std=1.5 * weights.shape[-1] ** -0.5)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


WITHOUT_ENGINE = (
    "vllm is not installed"
    if find_spec("vllm") is None
    else None
    if torch.cuda.is_available()
    else "vllm is installed, but there is no CUDA device"
)
"""Why backend vllm cannot run here; None where it can."""

MAKERS = {"blip2_opt": blip2_opt, "blip2_t5": blip2_t5, "llava": llava, "idefics3": idefics3}
