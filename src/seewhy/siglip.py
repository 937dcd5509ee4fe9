"""Texts x images: how well each text fits each image, by SigLIP, SigLIP 2 or CLIP without training for it.

A text's logit is the cosine of its embedding and the image's, times a scale that the model has learnt, plus a bias in
SigLIP. SigLIP (Zhai et al. 2023, arXiv:2303.15343) and SigLIP 2 (Tschannen et al. 2025, arXiv:2502.14786) were trained
pair by pair: the sigmoid of a logit is a probability by itself, also of a single text. CLIP (Radford et al. 2021,
arXiv:2103.00020) was trained to choose: its probabilities are a softmax over the texts that it is given.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from seewhy.failure import BAD_INPUT, Failure, Fatal
from seewhy.hub import need_safetensors
from seewhy.vlm import checkpoint

VERSION = 1
"""Goes up with every change of what the same model, texts and image give."""

SIGMOID, SOFTMAX = "sigmoid", "softmax"
PROBABILITY = {"siglip": SIGMOID, "siglip2": SIGMOID, "clip": SOFTMAX}
"""``model_type`` -> how its logits become probabilities."""

PLAIN = ("{}",)
"""The template that leaves a text as it is."""
PLACE = "{}"

MAX_RATIO = 100
"""Of an image's sides: CLIP scales the shorter one up to its own size, and the other would grow beyond all memory."""

Prepared = Mapping[str, torch.Tensor]
"""What the model reads of one image: each tensor (1, ...)."""


class TextImageModel:
    """A model that embeds texts and images in one space, on one device.

    Texts and images are embedded once each, however many pairs they make. Embeddings and all that follows from them are
    float32; in float32 the logits are the model's own to 1e-5. Texts for SigLIP become lower case, as in its training
    (SigLIP's tokenizer does it by itself, that of SigLIP 2 does not), and are padded to the model's full length, since
    the last position is what the model reads.

    Args:
        model: a folder, a name on the Hugging Face Hub, or ``tiny`` for the packaged one.
        revision: branch, tag or commit on the Hub; None for the main branch.
        dtype: ``auto`` (bfloat16 or float16 as a CUDA GPU can, else float32), ``float32``, ``bfloat16``, ``float16``.
        device: ``auto`` (the first GPU, else Apple's, else the CPU) or a torch device.

    Attributes:
        probability: SIGMOID or SOFTMAX.
        max_tokens: of a text, those that begin and end it included.

    Raises:
        Fatal: no such model, no right to read it, a missing package, weights that are not whole, or a model of
            another kind.
    """

    def __init__(self, *, model: str, revision: str | None = None, dtype: str = "auto", device: str = "auto") -> None:
        self.device = _pick_device(device)
        self._dtype = checkpoint.pick_dtype(dtype, self.device)
        config, named = described(model, revision)
        model = located(model)
        need_safetensors(model)
        self.probability = PROBABILITY[config.model_type]
        self.max_tokens: int = config.text_config.max_position_embeddings
        try:
            with checkpoint.quiet():
                options = {"revision": named["revision"], "trust_remote_code": False}
                processor = AutoProcessor.from_pretrained(model, **options)
                network, report = AutoModel.from_pretrained(
                    model, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
                )
        except ImportError as error:
            raise Fatal(f"model {model!r} needs a package that is not installed: {_line(error)}") from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise Fatal(f"cannot load model {model!r}: {_line(error)}") from error
        # transformers fills what the file lacks with random numbers and only logs it.
        if missing := sorted(report["missing_keys"]):
            raise Fatal(f"model {model!r} lacks {len(missing)} of its weights, {missing[0]!r} among them")
        self._tokenizer, self._image_processor = processor.tokenizer, processor.image_processor
        # Before the cast: bfloat16 would move the scale by up to 2% and the bias by up to 0.03.
        self._scale = network.logit_scale.detach().exp().to(self.device)
        bias = getattr(network, "logit_bias", None)
        self._bias = torch.zeros(1, device=self.device) if bias is None else bias.detach().to(self.device)
        self._network = network.to(self.device, self._dtype).eval()

    @torch.inference_mode()
    def text_embeddings(
        self, texts: Sequence[str], *, templates: Sequence[str] = PLAIN, batch_size: int = 64
    ) -> torch.Tensor:
        """(T, D) float32 of length 1, on the device.

        With several templates a text's embedding is the mean of those of its prompts, each of length 1, brought to
        length 1 again (Radford et al. 2021, section 3.1.4). ``{}`` in a template is where the text goes.

        Raises:
            ValueError: no texts, no templates, or a template without its place.
            Fatal: a prompt is longer than the model reads, or nothing in it is known to the tokenizer.
        """
        if not texts or not templates:
            raise ValueError(f"{len(texts)} texts and {len(templates)} templates: one of each is needed")
        if wrong := [one for one in templates if PLACE not in one]:
            raise ValueError(f"the template {wrong[0]!r} has no {PLACE} where the text goes")
        prompts = [template.replace(PLACE, text) for text in texts for template in templates]
        found = [self._of_prompts(prompts[i : i + batch_size]) for i in range(0, len(prompts), batch_size)]
        each = torch.cat(found).unflatten(0, (len(texts), len(templates)))
        return _unit(each.mean(dim=1))

    def _of_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        if self.probability == SIGMOID:
            read = self._tokenizer([one.lower() for one in prompts], padding="max_length", max_length=self.max_tokens)
        else:
            read = self._tokenizer(list(prompts), padding=True)
        for prompt, ids in zip(prompts, read["input_ids"], strict=True):
            if len(ids) > self.max_tokens:
                raise Fatal(f"the text {prompt!r} has {len(ids)} tokens; the model reads {self.max_tokens}: shorten it")
            if not self._tokenizer.decode(ids, skip_special_tokens=True).strip():
                raise Fatal(f"the model's tokenizer knows nothing of the text {prompt!r}: take a multilingual model")
        names = [name for name in ("input_ids", "attention_mask") if name in read]
        inputs = {name: torch.tensor(read[name], device=self.device) for name in names}
        return _unit(self._network.get_text_features(**inputs).pooler_output.float())

    def prepared(self, image: np.ndarray) -> Prepared | Failure:
        """What the model reads of an image (H, W, 3) uint8, on the CPU; safe in threads.

        Fails as `too_narrow` or `refused_by_processor`.
        """
        height, width = image.shape[:2]
        if max(height, width) > MAX_RATIO * min(height, width):
            detail = f"{width} x {height} pixels: one side is more than {MAX_RATIO} times the other"
            return Failure(BAD_INPUT, "too_narrow", detail)
        try:
            return dict(self._image_processor(images=[Image.fromarray(image)], return_tensors="pt"))
        except ValueError as error:
            return Failure(BAD_INPUT, "refused_by_processor", _line(error))

    @torch.inference_mode()
    def image_embeddings(self, images: Sequence[Prepared]) -> torch.Tensor:
        """(N, D) float32 of length 1, on the device. All N at once: the caller's batch is the model's."""
        whole = {name: torch.cat([image[name] for image in images]).to(self.device) for name in images[0]}
        inputs = {name: one.to(self._dtype) if one.is_floating_point() else one for name, one in whole.items()}
        return _unit(self._network.get_image_features(**inputs).pooler_output.float())

    @torch.inference_mode()
    def logits(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """(N, D) and (T, D) -> (N, T)."""
        return images @ texts.T * self._scale + self._bias

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, T): each by itself with SIGMOID; together 1 in each row with SOFTMAX."""
        return logits.sigmoid() if self.probability == SIGMOID else logits.softmax(dim=1)


def located(model: str) -> str:
    """``tiny`` is the packaged model's folder; any other name stands for itself."""
    return str(files("seewhy.demo") / "tiny_siglip") if model == "tiny" else model


def described(model: str, revision: str | None) -> tuple[Any, dict[str, Any]]:
    """The model's configuration, and what names its exact weights, see ``vlm.checkpoint.describe``.

    Raises:
        Fatal: no such model, none that may be read, or one of another kind.
    """
    config, named = checkpoint.describe(located(model), revision, False)
    if config.model_type not in PROBABILITY:
        allowed = ", ".join(PROBABILITY)
        raise Fatal(f"model {model!r} is a {config.model_type} model; one of the kinds {allowed} can score texts")
    return config, named


def _pick_device(device: str) -> torch.device:
    if device == "auto" and not torch.cuda.is_available() and torch.backends.mps.is_available():
        return torch.device("mps")
    return checkpoint.pick_device(device)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
