"""Any image-text-to-text model of transformers, in batches on one device: BLIP-2, and models with a chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import BatchFeature, LogitsProcessorList

from seewhy.failure import BAD_INPUT, TRANSIENT, Failure, Fatal
from seewhy.vlm import checkpoint
from seewhy.vlm.base import DEFAULT_PROMPT, MANY_IMAGES, Answer, Decoding, Request, answered
from seewhy.vlm.draw import DrawOne, uniforms
from seewhy.vlm.opened import opened
from seewhy.vlm.settings import dealt

VERSION = 1
"""Goes up with every change of what the same model, image and prompt give."""

TINY_TOKENS = 96
"""Tokens that the packaged model may write: about twice its longest caption."""

_NO_LIMIT = 10**9

Row = tuple[int, Request, list[Image.Image]]
"""Place in the caller's list, the request, its decoded images."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which model answers, and how it is run.

    Attributes:
        model: a folder, or a name on the Hugging Face Hub.
        revision: branch, tag or commit on the Hub; None for the main branch.
        dtype: ``auto`` (bfloat16 or float16 as the GPU can, float32 on a CPU), ``float32``, ``bfloat16``, ``float16``.
        device: ``auto`` (the first GPU, else the CPU) or a torch device.
        batch_size: rows that the model sees at once.
        trust_remote_code: run code that the model brings along.

    Raises:
        ValueError: a value out of range.
    """

    model: str
    revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int = 16
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size {self.batch_size} is below 1")


class HfBackend:
    """Answers requests with a transformers model, a batch at a time.

    BLIP-2 (``Blip2ForConditionalGeneration``) sees one image and continues the prompt; an empty prompt lets it caption
    freely, from its start token. Every other model must bring a chat template: it sees the images and then the prompt
    as one turn of a user. Only what the model wrote after the prompt comes back.

    Greedy decoding (``temperature=0``) gives the same text whatever stands beside a row in its batch, as far as float
    noise between batch shapes leaves the likeliest token the likeliest. Sampling draws for each row from the seed, its
    id and its prompt, so the same holds, and no global random state is read or written. Neither is promised across
    devices, dtypes or versions of torch and transformers.

    Out of memory: the batch is halved until it fits, and later batches start from there and grow again by one row each;
    a row that does not fit alone fails as transient ``out_of_memory``.

    Args:
        options: those of ``Settings`` and of ``Decoding``, by name.

    Raises:
        TypeError: an unknown option, or no model.
        ValueError: an option is out of range.
        Fatal: no such model, no right to read it, a missing package, weights that are not whole, or a model that
            takes no image and prompt. The message says what to do.
    """

    def __init__(self, **options: Any) -> None:
        asked, self._decoding = dealt(options, Settings, Decoding)
        self._device = checkpoint.pick_device(asked.device)
        self._dtype = checkpoint.pick_dtype(asked.dtype, self._device)
        self._processor, self._network = checkpoint.load(
            asked.model, asked.revision, self._dtype, self._device, asked.trust_remote_code
        )
        self._batch_size = self._fits = asked.batch_size
        config = self._network.config
        self.default_prompt = default_prompt(config.model_type)
        self._blip2: bool = config.model_type == checkpoint.BLIP2
        self.max_images = 1 if self._blip2 else MANY_IMAGES
        writer = self._network.language_model if self._blip2 else self._network
        self._stop_ids, self._pad_id = _set_padding(self._processor.tokenizer, writer.generation_config)
        self._encoder_decoder: bool = writer.config.is_encoder_decoder
        # A decoder goes on writing where its row ends; an encoder may count positions from the left.
        self._processor.tokenizer.padding_side = "right" if self._encoder_decoder else "left"
        self._context: int | None = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
        told = self._processor.tokenizer.model_max_length  # a huge number where the tokenizer names none
        self._reads: int | None = self._context or (told if told < _NO_LIMIT else None)
        self._check(asked.model)

    def fits(self, request: Request, *, context: int | None = None) -> bool:
        """Whether images, prompt and the longest answer go into the model's context, and into `context` tokens.

        Counted as the model reads them. A decoder writes where it reads; an encoder-decoder answers elsewhere, and
        where its configuration names no positions (T5), the tokenizer's limit holds. What cannot be counted fits: it
        is for `generate` to say what is wrong with it.
        """
        limit = min((one for one in (context, self._reads) if one is not None), default=None)
        read = None if limit is None else self._tokens_of(request)
        if limit is None or read is None:
            return True
        return read + (0 if self._encoder_decoder else self._decoding.max_new_tokens) <= limit

    def _tokens_of(self, request: Request) -> int | None:
        """Those of the images among them; None where the images cannot be read."""
        if self._blip2:
            return len(self._blip2_ids(request.prompt))
        images = self._open(request)
        if isinstance(images, Failure):
            return None
        try:
            return int(self._encode_chat([(0, request, images)])["attention_mask"].sum())
        except ValueError:
            return None

    def generate(self, requests: list[Request]) -> list[Answer]:
        """As many answers as requests, in order. A broken image fails its own row (bad input) and no other."""
        answers: dict[int, Answer] = {}
        order = list(range(len(requests)))
        if len({request.prompt for request in requests}) > 1:
            order.sort(key=lambda place: len(requests[place].prompt))  # rows of like length need little padding
        while order:
            batch, order = order[: self._fits], order[self._fits :]
            rows = []
            for place in batch:
                images = self._open(requests[place])
                if isinstance(images, Failure):
                    answers[place] = Answer(failure=images)
                else:
                    rows.append((place, requests[place], images))
            answers.update(self._fit(rows))
            self._fits = min(self._batch_size, self._fits + 1)
        return [answers[place] for place in range(len(requests))]

    def _open(self, request: Request) -> list[Image.Image] | Failure:
        return opened(request, self.max_images)

    def _fit(self, rows: list[Row]) -> dict[int, Answer]:
        """Answers by place. Rows that are too many, or of which one cannot be answered, are halved until it shows."""
        if not rows:
            return {}
        try:
            return self._answer(rows)
        except (torch.OutOfMemoryError, MemoryError) as error:
            failure = Failure(TRANSIENT, "out_of_memory", str(error))
            self._fits = max(1, min(self._fits, len(rows) // 2))
        except _Unanswerable as error:
            failure = error.failure
        # Outside the handlers: while one runs, its traceback keeps the failed batch's tensors alive.
        if len(rows) == 1:
            return {rows[0][0]: Answer(failure=failure)}
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(rows) // 2
        return self._fit(rows[:half]) | self._fit(rows[half:])

    def _answer(self, rows: list[Row]) -> dict[int, Answer]:
        try:
            inputs = self._encode(rows)
        except ValueError as error:  # __init__ saw a plain image pass, so it is these images that do not
            raise _Unanswerable(Failure(BAD_INPUT, "refused_by_processor", str(error))) from error
        tokens_in = inputs["attention_mask"].sum(dim=1).tolist()
        steps = self._decoding.max_new_tokens
        if self._context is not None and not self._encoder_decoder:
            steps = min(steps, self._context - max(tokens_in))
        if steps < 1:
            detail = f"{max(tokens_in)} tokens of image and prompt; the model reads and writes {self._context} in all"
            raise _Unanswerable(Failure(BAD_INPUT, "prompt_too_long", detail))
        written = self._write(inputs, [request for _, request, _ in rows], steps)
        texts = self._processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        answers = {}
        for (place, _, _), text, ids, read in zip(rows, texts, written, tokens_in, strict=True):
            stopped = bool(ids) and ids[-1] in self._stop_ids
            answers[place] = answered(text, "stop" if stopped else "length", read, len(ids))
        return answers

    @torch.inference_mode()
    def _write(self, inputs: BatchFeature, requests: Sequence[Request], steps: int) -> list[list[int]]:
        """Per row the ids that the model wrote: after the prompt, up to and with the one that ends the text."""
        if self._decoding.greedy:
            choose = None
        else:
            draws = uniforms(requests, self._decoding.seed, steps)
            choose = LogitsProcessorList([DrawOne(draws, self._decoding.temperature, self._decoding.top_p)])
        with checkpoint.quiet():
            sequences = self._network.generate(
                **inputs.to(self._device, self._dtype),
                max_new_tokens=steps,
                do_sample=False,
                num_beams=1,
                eos_token_id=sorted(self._stop_ids) or None,
                pad_token_id=self._pad_id,
                logits_processor=choose,
            )
        # An encoder-decoder returns its start token first, a decoder the whole prompt, image tokens and padding too.
        skip = 1 if self._encoder_decoder else inputs["input_ids"].shape[1]
        return [self._until_stop(ids) for ids in sequences[:, skip:].tolist()]

    def _until_stop(self, ids: list[int]) -> list[int]:
        end = next((place for place, token in enumerate(ids) if token in self._stop_ids), len(ids))
        return ids[: end + 1]

    def _encode(self, rows: Sequence[Row]) -> BatchFeature:
        return self._encode_blip2(rows) if self._blip2 else self._encode_chat(rows)

    def _encode_blip2(self, rows: Sequence[Row]) -> BatchFeature:
        """Image tokens, then the prompt's, and the pictures."""
        ids = [self._blip2_ids(request.prompt) for _, request, _ in rows]
        inputs = self._processor.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        pixels = self._processor.image_processor([images[0] for _, _, images in rows], return_tensors="pt")
        return BatchFeature({**inputs, **pixels})

    def _blip2_ids(self, prompt: str) -> list[int]:
        """Image tokens, then the prompt's; without a prompt the start token alone, as the model does by itself."""
        config, tokenizer = self._network.config, self._processor.tokenizer
        text = config.text_config
        start = getattr(text, "bos_token_id", None)  # a T5 has none, and opens an empty prompt with its end token
        empty = [text.eos_token_id if start is None else start]
        return [config.image_token_id] * config.num_query_tokens + (tokenizer(prompt)["input_ids"] if prompt else empty)

    def _encode_chat(self, rows: Sequence[Row]) -> BatchFeature:
        """One user's turn a row, images first, through the model's own template."""
        turns = []
        for _, request, images in rows:
            content = [{"type": "image"}] * len(images)
            if request.prompt:
                content.append({"type": "text", "text": request.prompt})
            turns.append([{"role": "user", "content": content}])
        texts = self._processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        start = self._processor.tokenizer.bos_token
        twice = bool(start) and texts[0].startswith(start)  # the template wrote it: the tokenizer must not again
        return self._processor(
            text=texts,
            images=[images for _, _, images in rows],
            padding=True,
            return_tensors="pt",
            **({"add_special_tokens": False} if twice else {}),
        )

    def _check(self, model: str) -> None:
        """Sends one plain image through the processor, so that what fails later is the fault of a row."""
        if self._blip2 and self._network.config.image_token_id is None:
            raise Fatal(f"model {model!r} is an old BLIP-2 that names no image token; take a newer revision of it")
        if not self._blip2 and not _chat_template(self._processor):
            raise Fatal(f"model {model!r} has no chat template, so it cannot be told what to do with an image")
        plain = Image.fromarray(np.full((64, 64, 3), 128, np.uint8))
        try:
            self._encode([(0, Request("", (), "What is this?"), [plain])])
        except (ValueError, TypeError, KeyError, AttributeError, TemplateError) as error:
            raise Fatal(f"model {model!r} does not take one image and a prompt: {error}") from error


class _Unanswerable(Exception):
    """Some row of the batch cannot be answered, for the reason given."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def default_prompt(model_type: str) -> str:
    """A BLIP-2 was made to caption without a prompt, a chat model needs to be asked."""
    return "" if model_type == checkpoint.BLIP2 else DEFAULT_PROMPT


def identity(*, prompt: str | None = None, **options: Any) -> dict[str, object]:
    """All that changes an answer, from the options of ``HfBackend`` and the prompt; reads no weights from a hub.

    ``revision`` comes out as the exact commit; a folder's files come out as a digest, and its path does not matter.
    ``device`` and ``batch_size`` change nothing but float noise, and are left out. ``dtype`` stays as it was asked
    for: ``auto`` names the same table on a laptop and on a cluster.

    Raises:
        Fatal: no such model, or none that may be read.
    """
    asked, decoding = dealt(options, Settings, Decoding)
    config, weights = checkpoint.describe(asked.model, asked.revision, asked.trust_remote_code)
    return {
        "code": VERSION,
        **weights,
        "dtype": asked.dtype,
        "prompt": default_prompt(config.model_type) if prompt is None else prompt,
        **decoding.identity(),
    }


def tiny(**options: Any) -> HfBackend:
    """The packaged demo model: a BLIP-2 of the same class as the large ones, greedy unless told otherwise."""
    return HfBackend(**_tiny_options(options))


def tiny_identity(**options: Any) -> dict[str, object]:
    return identity(**_tiny_options(options))


def _tiny_options(options: dict[str, Any]) -> dict[str, Any]:
    folder = files("seewhy.demo") / "tiny_vlm"
    if not (folder / "model.safetensors").is_file():
        raise Fatal("the packaged model seewhy/demo/tiny_vlm is missing: install seewhy again")
    return {"model": str(folder), "batch_size": 64, "temperature": 0.0, "max_new_tokens": TINY_TOKENS, **options}


def _chat_template(processor: Any) -> Any:
    return getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)


def _set_padding(tokenizer: Any, generation: Any) -> tuple[frozenset[int], int]:
    """The ids that end a text, and the one to pad with; the tokenizer learns a padding token if it has none."""
    stops = generation.eos_token_id if generation.eos_token_id is not None else tokenizer.eos_token_id
    stop_ids = frozenset(stops if isinstance(stops, list) else [] if stops is None else [stops])
    if tokenizer.pad_token_id is None:
        # The attention mask hides padding, so any token of the vocabulary does.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(min(stop_ids, default=0))
    return stop_ids, tokenizer.pad_token_id
