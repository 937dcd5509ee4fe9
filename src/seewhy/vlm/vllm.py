"""vLLM's offline engine: a model with a chat template on all GPUs of a worker, with as many rows at once as fit.

The engine batches by itself, row by row, and keeps what it has read: an instruction that comes before the images, and
is the same for all rows, is read once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image

from seewhy.failure import BAD_INPUT, REJECTED, TRANSIENT, Failure, Fatal
from seewhy.hub import need_own_code
from seewhy.vlm import checkpoint
from seewhy.vlm.base import DEFAULT_PROMPT, Answer, Decoding, Request, answered
from seewhy.vlm.draw import row_key
from seewhy.vlm.opened import opened
from seewhy.vlm.settings import dealt

VERSION = 1
"""Goes up with every change of what the same model, image and prompt give."""

OURS = {"model", "revision", "tokenizer_revision", "dtype", "trust_remote_code", "load_format", "max_model_len"} | {
    "tensor_parallel_size",
    "distributed_executor_backend",
    "gpu_memory_utilization",
    "limit_mm_per_prompt",
    "enable_prefix_caching",
}
"""Arguments of ``vllm.LLM`` that `engine` may not set."""

Row = tuple[int, Request, list[Image.Image]]
"""Place in the caller's list, the request, its decoded images."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which model the engine runs, how it is asked, and what it may use.

    Attributes:
        model: a folder, or a name on the Hugging Face Hub.
        revision: branch, tag or commit on the Hub; None for the main branch.
        dtype: ``auto`` (the weights' own; half precision for float32 ones), ``float32``, ``bfloat16``, ``float16``.
        trust_remote_code: run code that the model brings along.
        system_prompt: a turn before the user's.
        prompt_first: the instruction comes before the images, so that it is read once for all rows; False: after them,
            as many models saw it in training. Templates that put images first by themselves do so either way.
        chat_template_kwargs: for the model's template, such as ``{"enable_thinking": False}``.
        max_images: the most that one request may hold: memory is set aside for them.
        max_model_len: tokens of prompt and answer together; None for the model's own, which may be more than fits.
        gpus: over which the model is split (tensor parallel); None: all that the worker sees, and Ray shows it those
            of ``gpus_per_worker``.
        gpu_memory_utilization: share of each GPU's memory that the engine takes.
        batch_size: rows that are decoded and handed to the engine at once.
        engine: further arguments of ``vllm.LLM``, such as ``{"quantization": "awq"}``.

    Raises:
        ValueError: a value out of range, or `engine` sets what has a setting of its own.
    """

    model: str
    revision: str | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
    system_prompt: str | None = None
    prompt_first: bool = True
    chat_template_kwargs: Mapping[str, Any] | None = None
    max_images: int = 2
    max_model_len: int | None = None
    gpus: int | None = None
    gpu_memory_utilization: float = 0.9
    batch_size: int = 256
    engine: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("max_images", "max_model_len", "gpus", "batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be 1 or more")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(f"gpu_memory_utilization {self.gpu_memory_utilization} is not in (0, 1]")
        if self.dtype not in ("auto", *checkpoint.DTYPES):
            raise ValueError(f"dtype {self.dtype!r} is not one of auto, {', '.join(checkpoint.DTYPES)}")
        if twice := sorted(set(self.engine or {}) & OURS):
            raise ValueError(
                f"engine sets {', '.join(twice)}, which have settings of their own or must stay as they are"
            )


class VllmBackend:
    """Answers requests with a model in vLLM's offline engine, through the model's own chat template.

    Greedy decoding takes the likeliest token; sampling draws for each row from the seed, its id and its prompt. What
    stands beside a row changes the shape of the engine's batches and thereby float noise, so equal texts are likely
    and not promised.

    Failures, beside those of ``images.decode`` (bad_input):
        bad_input: no_image, too_many_images, prompt_too_long and refused_by_engine (too long with its images, or
            images that the model's processor does not take: the detail says which, in the engine's words)
        rejected: cut_before_text, answer_stopped_repetition, empty_answer
        transient: answer_abort, answer_error and no_candidates: the engine dropped the row

    Args:
        options: those of ``Settings`` and of ``Decoding``, by name.

    Raises:
        TypeError: an unknown option, or no model.
        ValueError: an option is out of range.
        Fatal: vLLM is not installed, there is no GPU, no such model, too little memory for it, or a model that takes
            no image and prompt; and of `generate`, where the engine dies. The message says what to do.
    """

    def __init__(self, **options: Any) -> None:
        self._asked, self._decoding = dealt(options, Settings, Decoding)
        self.default_prompt = DEFAULT_PROMPT
        self.max_images: int = self._asked.max_images
        self._engine = _started(self._asked)
        from vllm import exceptions
        from vllm.v1.engine.exceptions import EngineDeadError

        # Newer ones raise errors of their own for a request that cannot be answered, older ones ValueError.
        self._refusals = (ValueError, getattr(exceptions, "VLLMClientError", ValueError))
        self._death = EngineDeadError
        self._check()

    def generate(self, requests: list[Request]) -> list[Answer]:
        """As many answers as requests, in order; failures as values. Raises ``Fatal`` where the engine dies."""
        answers: dict[int, Answer] = {}
        for start in range(0, len(requests), self._asked.batch_size):
            rows: list[Row] = []
            for place, request in enumerate(requests[start : start + self._asked.batch_size], start):
                images = opened(request, self.max_images)
                if isinstance(images, Failure):
                    answers[place] = Answer(failure=images)
                else:
                    rows.append((place, request, images))
            answers.update(self._fit(rows))
        return [answers[place] for place in range(len(requests))]

    def _fit(self, rows: list[Row]) -> dict[int, Answer]:
        """Answers by place. The engine refuses rows as a whole: they are halved until it shows which it means."""
        if not rows:
            return {}
        try:
            outputs = self._ask(rows, self._decoding)
        except self._refusals as error:
            if len(rows) == 1:
                return {rows[0][0]: Answer(failure=_refused(error))}
        else:
            return {place: read_output(output) for (place, _, _), output in zip(rows, outputs, strict=True)}
        half = len(rows) // 2
        return self._fit(rows[:half]) | self._fit(rows[half:])

    def _ask(self, rows: Sequence[Row], decoding: Decoding) -> list[Any]:
        """What the engine makes of each row, in order."""
        from vllm import SamplingParams

        try:
            return self._engine.chat(
                [conversation(request, images, self._asked) for _, request, images in rows],
                [SamplingParams(**sampling(request, decoding)) for _, request, _ in rows],
                use_tqdm=False,
                chat_template_kwargs=dict(self._asked.chat_template_kwargs or {}),
            )
        except self._death as error:
            raise Fatal(
                f"vLLM's engine died over model {self._asked.model!r}; the worker's log says of what. If its memory "
                "ran out, lower options.gpu_memory_utilization or options.max_model_len, or give more gpus_per_worker"
            ) from error

    def _check(self) -> None:
        """Asks about one plain image, so that what fails later is the fault of a row."""
        plain = Request("", (), "What is this?")
        try:
            self._ask([(0, plain, [Image.new("RGB", (64, 64), "grey")])], Decoding(0.0, max_new_tokens=1))
        except (*self._refusals, TypeError, KeyError, AttributeError, TemplateError) as error:
            raise Fatal(
                f"model {self._asked.model!r} does not take one image and a prompt by a chat template: {error}. "
                "Backend hf runs models without one, such as BLIP-2"
            ) from error


def identity(*, prompt: str | None = None, **options: Any) -> dict[str, object]:
    """All that changes an answer, from the options of ``VllmBackend`` and the prompt; reads no weights from a hub.

    ``revision`` comes out as the exact commit; a folder's files come out as a digest. GPUs, memory and ``batch_size``
    change nothing but float noise, and are left out. ``dtype`` stays as it was asked for.

    Raises:
        Fatal: no such model, or none that may be read.
    """
    asked, decoding = dealt(options, Settings, Decoding)
    _, weights = checkpoint.describe(asked.model, asked.revision, asked.trust_remote_code)
    return {
        "code": VERSION,
        **weights,
        "dtype": asked.dtype,
        "prompt": DEFAULT_PROMPT if prompt is None else prompt,
        "system_prompt": asked.system_prompt,
        "prompt_first": asked.prompt_first,
        "chat_template_kwargs": _text(asked.chat_template_kwargs),
        "max_images": asked.max_images,  # with one, photo and map come side by side in one picture
        "max_model_len": asked.max_model_len,  # texts are cut there
        "engine": _text(asked.engine),
        **decoding.identity(),
    }


def conversation(request: Request, images: Sequence[Image.Image], asked: Settings) -> list[dict[str, Any]]:
    """The turns as ``LLM.chat`` takes them: a system's if there is one, and a user's."""
    shown = [{"type": "image_pil", "image_pil": image} for image in images]
    told = [{"type": "text", "text": request.prompt}] if request.prompt else []
    content = [*told, *shown] if asked.prompt_first else [*shown, *told]
    system = [{"role": "system", "content": asked.system_prompt}] if asked.system_prompt else []
    return [*system, {"role": "user", "content": content}]


def sampling(request: Request, decoding: Decoding) -> dict[str, Any]:
    """Arguments of ``SamplingParams``: those that the identity holds, with a seed of the row's own."""
    if decoding.greedy:
        return {"temperature": 0.0, "max_tokens": decoding.max_new_tokens}
    return {
        "temperature": float(decoding.temperature),
        "top_p": float(decoding.top_p),
        "max_tokens": decoding.max_new_tokens,
        "seed": row_key(request, decoding.seed) >> 1,  # 63 bits: torch's seeds are signed
    }


def read_output(output: Any) -> Answer:
    """The answer in a ``RequestOutput`` of vLLM."""
    read = None if output.prompt_token_ids is None else len(output.prompt_token_ids)
    if not output.outputs:
        return Answer(None, Failure(TRANSIENT, "no_candidates", "the engine gave no answer"), None, read)
    one = output.outputs[0]
    finish, written = one.finish_reason, len(one.token_ids)
    if finish == "stop" or (finish == "length" and one.text.strip()):
        return answered(one.text, finish, read, written)
    if finish == "length":
        detail = "no text before the token limit: raise it, or let the model think less"
        return Answer(None, Failure(REJECTED, "cut_before_text", detail), finish, read, written)
    if finish == "repetition":
        detail = "the engine stopped the answer: it repeats itself"
        return Answer(None, Failure(REJECTED, "answer_stopped_repetition", detail), finish, read, written)
    # abort, error and whatever else: the engine's trouble, not the model's answer
    failure = Failure(TRANSIENT, f"answer_{finish}", f"the engine dropped the row: {finish}")
    return Answer(None, failure, finish, read, written)


def _refused(error: Exception) -> Failure:
    too_long = getattr(error, "parameter", None) == "input_tokens"
    return Failure(BAD_INPUT, "prompt_too_long" if too_long else "refused_by_engine", str(error)[:500])


def _started(asked: Settings) -> Any:
    """The engine, with the model on all its GPUs."""
    try:
        import vllm
    except ImportError as error:
        raise Fatal(
            f'backend vllm needs the package vllm, which wants a GPU: pip install "seewhy[vllm]" ({error})'
        ) from error
    gpus = asked.gpus or torch.cuda.device_count()
    if gpus < 1:
        raise Fatal("backend vllm sees no GPU: ask for one as in resources: {gpus_per_worker: 1}")
    commit = checkpoint.commit(asked.model, asked.revision)
    if asked.trust_remote_code:
        need_own_code(asked.model, commit)
    try:
        return vllm.LLM(
            model=asked.model,
            revision=commit,
            tokenizer_revision=commit,
            dtype=asked.dtype,
            trust_remote_code=asked.trust_remote_code,
            load_format="safetensors",  # other forms of weights can run code when they are read
            max_model_len=asked.max_model_len,
            tensor_parallel_size=gpus,
            # In a Ray worker vLLM would look for GPUs of other nodes; those of this worker are all it is meant to have.
            distributed_executor_backend="mp" if gpus > 1 else None,
            gpu_memory_utilization=asked.gpu_memory_utilization,
            limit_mm_per_prompt={"image": asked.max_images, "video": 0},
            enable_prefix_caching=True,
            **(asked.engine or {}),
        )
    except (OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError) as error:
        raise Fatal(
            f"vLLM cannot run model {asked.model!r} (GPUs: {gpus}): {error}. If their memory does not suffice, lower "
            " options.max_model_len, or give more gpus_per_worker"
        ) from error


def _text(given: Mapping[str, Any] | None) -> str | None:
    return json.dumps(dict(given), sort_keys=True, ensure_ascii=False) if given else None
