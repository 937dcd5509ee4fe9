"""Pairs of text and image scored a second: the stage beside one image and one text at a time, by the same SigLIP.

    python tests/benchmarks/score.py [--quick]

The stage takes encoded images and is timed with all it does but loading the model; embedding the texts counts. Beside
it stands transformers' documented way, processor and model called for one pair, on a sample of the pairs, from images
that are decoded already. Rounds of the two alternate in one process; the ratio is the median over the rounds. Weights
are random: on a CPU a small tower at 128 pixels, on a GPU the shape of SigLIP base at 224 in the same dtype.
"""

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, AutoProcessor, PreTrainedTokenizerFast, SiglipConfig, SiglipModel, SiglipProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from seewhy.score import Score
from seewhy.vlm.checkpoint import pick_dtype, quiet

TEXTS, IMAGES, BLOCK = 200, 2000, 64
SIDE = 320
"""Pixels of the images as they come."""


def save_model(folder: Path, *, large: bool) -> None:
    words = {word: place for place, word in enumerate(["<pad>", "</s>", *(f"w{i}" for i in range(TEXTS))])}
    inner = Tokenizer(models.WordLevel(words, unk_token="</s>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", model_input_names=["input_ids"]
    )
    ids = {"vocab_size": len(words), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    small = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    size = 224 if large else 128
    shape = {} if large else small
    torch.manual_seed(0)
    with quiet():
        config = SiglipConfig(text_config={**shape, **ids}, vision_config={**shape, "image_size": size})
        SiglipModel(config).save_pretrained(folder)
        SiglipProcessor(SiglipImageProcessorPil(size={"height": size, "width": size}), tokenizer).save_pretrained(
            folder
        )


def pictures(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        blocks = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize((SIDE, SIDE))
        buffer = io.BytesIO()
        blocks.save(buffer, "JPEG")
        found.append(buffer.getvalue())
    return found


def ours(folder: Path, images: list[bytes], texts: list[str], device: torch.device) -> float:
    """Pairs a second. A stage that has the model already and reads the texts anew stands for one just built."""
    with quiet():
        stage = Score(model=str(folder), texts=texts[:1], device=device.type)
    started = time.perf_counter()
    stage._texts = stage._model.text_embeddings(texts)
    for first in range(0, len(images), BLOCK):
        block = images[first : first + BLOCK]
        found = stage(pa.table({"id": [str(first + i) for i in range(len(block))], "image": block}))
        assert found["reason"].null_count == len(block)
    return len(images) * len(texts) / (time.perf_counter() - started)


def one_by_one(folder: Path, images: list[bytes], texts: list[str], device: torch.device, pairs: int) -> float:
    with quiet():
        processor = AutoProcessor.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder, dtype=pick_dtype("auto", device)).to(device).eval()
    rng = np.random.default_rng(1)
    opened = [Image.open(io.BytesIO(images[place])).convert("RGB") for place in rng.integers(len(images), size=pairs)]
    asked = [texts[place] for place in rng.integers(len(texts), size=pairs)]
    started = time.perf_counter()
    for image, text in zip(opened, asked, strict=True):
        inputs = processor(text=[text], images=[image], padding="max_length", max_length=64, return_tensors="pt")
        with torch.inference_mode():
            chance = model(**inputs.to(device, model.dtype)).logits_per_image.sigmoid()
        chance.item()
    return pairs / (time.perf_counter() - started)


def compare(device: torch.device, *, texts: int, images: int, pairs: int, rounds: int) -> dict[str, object]:
    asked, drawn = [f"w{i}" for i in range(texts)], pictures(images)
    fast, slow = [], []
    with tempfile.TemporaryDirectory() as name:
        save_model(Path(name), large=device.type == "cuda")
        one_by_one(Path(name), drawn, asked, device, 2)
        for _ in range(rounds):
            slow.append(one_by_one(Path(name), drawn, asked, device, pairs))
            fast.append(ours(Path(name), drawn, asked, device))
    ratio = statistics.median(a / b for a, b in zip(fast, slow, strict=True))
    seen = {"stage": fast, "one_by_one": slow}
    return {
        "work": f"SigLIP scores, {texts} texts x {images:,} images, {device.type}",
        "beside": "one image and one text at a time",
        "ratio": round(ratio, 1),
        "must": "50 or more",
        "seen": {f"{side}_pairs_per_sec": [round(one, 1) for one in rates] for side, rates in seen.items()},
        "hardware": hardware(device),
    }


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run: few texts and images")
    quick = parser.parse_args().quick
    sizes = {"texts": 20, "images": 40, "pairs": 10} if quick else {"texts": TEXTS, "images": IMAGES, "pairs": 100}
    devices = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
    print(json.dumps([compare(device, **sizes, rounds=1 if quick else 3) for device in devices]))


if __name__ == "__main__":
    main()
