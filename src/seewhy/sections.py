"""The sections of a study as pydantic models: what may be set, what is allowed, and the defaults."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from seewhy.fetch.addresses import AddressRule
from seewhy.schema import check_columns

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(value: Any) -> Any:
    """``20 MB`` or ``16 GiB`` -> bytes."""
    if not isinstance(value, str):
        return value
    number = value.strip().rstrip("BKMGIbkmgi").strip()
    unit = value.strip()[len(number) :].strip().upper()
    try:
        return round(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise ValueError("a size is a number of bytes, or a number with one of KB MB GB KiB MiB GiB") from None


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=1)]


def _usd(value: Any) -> Any:
    """``25 USD`` -> 25."""
    if not isinstance(value, str):
        return value
    amount, _, currency = value.strip().partition(" ")
    try:
        if currency.strip().upper() not in ("", "USD"):
            raise ValueError
        return float(amount)
    except ValueError:
        raise ValueError("a sum is a number of USD, such as 25 or 25 USD") from None


Usd = Annotated[float, BeforeValidator(_usd), Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=False, allow_inf_nan=False)

    def __hash__(self) -> int:  # pydantic's own cannot hash lists
        return hash(self.model_dump_json())


class Manifest(Section):
    """Where the table of images or videos is, and what its columns mean."""

    path: str
    format: Literal["auto", "csv", "tsv", "parquet", "jsonl"] = "auto"
    image: str | None = None
    """Column with a URL, or a path relative to the manifest."""
    video: str | None = None
    """The same for videos, in place of images."""
    target: str
    text: str | None = None
    """Column with a text that replaces captioning."""
    keep: list[str] = []
    """Columns that ride along into the report."""
    task: Literal["auto", "regression", "classification"] = "auto"
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _something_to_read(self) -> "Manifest":
        if self.media is None and self.text is None:
            raise ValueError("name the column of the images (image) or videos (video), of the texts (text), or both")
        if self.image is not None and self.video is not None:
            raise ValueError("a study is one of images (image) or of videos (video), not of both")
        return self

    @property
    def media(self) -> str | None:
        """The column of what there is to see."""
        return self.image if self.video is None else self.video

    @property
    def thing(self) -> str:
        """What there is to see, for people."""
        return "image" if self.video is None else "video"


class Resources(Section):
    """What a stage's workers reserve on the cluster."""

    workers: Positive | tuple[Positive, Positive] = 1
    """Workers, or [fewest, most]."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1.0
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    memory_per_worker: Bytes | None = None
    accelerator_type: str | None = None
    rows_per_block: Positive = 64
    """Rows that a kill can lose, and that one Parquet part holds."""

    @model_validator(mode="after")
    def _in_order(self) -> "Resources":
        if isinstance(self.workers, tuple) and self.workers[0] > self.workers[1]:
            raise ValueError(f"workers: fewest {self.workers[0]} is more than most {self.workers[1]}")
        return self


class Fetch(Section):
    max_bytes: Bytes = 20_000_000
    max_pixels: Positive = 50_000_000
    max_video_bytes: Annotated[Bytes, Field(le=1_000_000_000)] = 100_000_000
    max_video_pixels: Positive = 36_000_000
    """Of a frame."""
    max_video_seconds: Annotated[float, Field(gt=0)] = 3600.0
    by_uri: bool = False
    """Objects at gs:// URLs are not fetched: `gemini` is handed their URIs. An id is made of URI, generation and
    checksum as they are when fetch looks. There are no pictures of them in the report."""
    timeout_sec: Annotated[float, Field(gt=0)] = 30.0
    """Of a request and its body; 300 where videos are fetched and nothing is set."""
    connect_timeout_sec: Annotated[float, Field(gt=0)] = 10.0
    tries: Positive = 4
    concurrency: Positive = 64
    per_host: Positive = 16
    """Connections to one host, of each worker."""
    allow_private: bool | list[str] = False
    """true, or hosts and CIDR ranges, that may be fetched though their address is loopback, private or link-local."""
    roots: list[str] = []
    """Folders beside the manifest's own from which local images may be read."""
    schemes: list[str] = []
    """Storage schemes (gs, s3, ...) beside those of the manifest and the workspace."""
    resources: Resources = Resources(cpus_per_worker=0.5)
    """A worker holds its block's images, twice while their part is written: up to 2 x rows_per_block x max_bytes."""

    @model_validator(mode="after")
    def _addresses_can_be_read(self) -> "Fetch":
        AddressRule(self.allow_private)
        return self


ONLINE = ("gemini", "openai")
"""Backends that ask a service."""


class VisionModel(Section):
    """A vision-language model and how it decodes: what captioning and describing have in common."""

    backend: Literal["tiny", "hf", "vllm", "gemini", "openai", "fake"] = "tiny"
    """`hf` and `vllm` run a model here. `gemini`: Gemini on Vertex AI. `openai`: any server with an OpenAI-compatible
    chat endpoint."""
    model: str | None = None
    """Hub name or local folder for `hf` and `vllm`; for `gemini` and `openai` what the service calls it."""
    revision: str | None = None
    prompt: str | None = None
    """None: the backend's default. An empty one asks a BLIP-2 for a caption without a prompt."""
    temperature: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    """0 is greedy: reproducible. None, here and below: the backend's own (1.0, 0.95, 1000; `tiny`: greedy)."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    max_tokens: Positive | None = None
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_size: Positive | None = None
    trust_remote_code: bool = False
    """Run code that the model brings along: from a folder, or from a `revision` that is a commit, 40 digits, since
    what a branch or a tag means may change. Code of another repository is refused."""
    batch: str | None = None
    """gs://bucket/folder: Gemini's batch service is asked, at half the price and within about a day, and its files lie
    there. It writes into the same table. None: online."""
    requests_per_minute: Annotated[float, Field(ge=1)] | None = None
    """That the service allows, for all workers together; None, here and for tokens: found out from its refusals."""
    tokens_per_minute: Annotated[float, Field(ge=1)] | None = None
    options: dict[str, Any] = {}
    """Further keyword arguments of the backend's own: see Settings in hf.py, gemini.py, openai.py, vllm.py."""
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _model_where_needed(self) -> Self:
        if self.backend in ("hf", "vllm") and self.model is None:
            example = "Salesforce/blip2-opt-2.7b" if self.backend == "hf" else "Qwen/Qwen2.5-VL-7B-Instruct"
            raise ValueError(f"backend {self.backend} needs `model`: a hub name such as {example}, or a local folder")
        if self.backend in ONLINE and self.model is None:
            raise ValueError(f"backend {self.backend} needs `model`: the name that the service knows it by")
        if self.backend == "openai" and "base_url" not in self.options:
            raise ValueError("backend openai needs options: {base_url: ...}, such as http://localhost:8000/v1")
        if self.batch is not None and self.backend != "gemini":
            raise ValueError(f"backend {self.backend} has no batch service here: `batch` is for gemini")
        if self.batch is not None and not re.fullmatch(r"gs://[^/\s]+(/\S*)?", self.batch):
            raise ValueError(f"batch {self.batch!r} is no folder that Vertex AI can read, such as gs://bucket/folder")
        if self.backend not in ONLINE and (self.requests_per_minute or self.tokens_per_minute):
            raise ValueError(f"backend {self.backend} asks no service, so it takes no limits a minute")
        if self.trust_remote_code:
            self._code_of_one_commit()
        if self.backend == "gemini" and self.revision is not None:
            raise ValueError("backend gemini takes no `revision`: the model's name holds its version")
        return self

    def _code_of_one_commit(self) -> None:
        if self.backend not in ("hf", "vllm"):
            raise ValueError(f"backend {self.backend} runs no code of a model's: leave out trust_remote_code")
        folder = (self.model or "").startswith(("/", ".", "~"))
        if not folder and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError(
                f"trust_remote_code runs what {self.model} brings along: name the commit that you trust as `revision`, "
                f"40 digits, not {self.revision!r}"
            )


class Caption(VisionModel):
    frames: Annotated[int, Field(ge=1, le=100)] | None = None
    """Frames of a video that the model is shown, from the middles of equal parts. None: `gemini` sees the whole video,
    all others 8 frames; a model that sees only one picture gets them in one."""


class Describe(VisionModel):
    """What a vision-language model sees in a photo and its heat map."""

    language: Literal["ja", "en"] = "ja"
    """Of the default prompts."""
    controls: list[Literal["random", "none"]] = ["random", "none"]
    """The same photos described from a random map, and from no map: which words come from the model's attention?"""
    control_sample: Positive | None = None
    """Describe a seeded sample of so many photos for each control instead of all."""
    control_prompt: str | None = None
    """For photos without a map; `prompt` speaks of one."""
    reveal_prediction: bool = False
    """Name the predicted class in the prompt. The describer then tends to say what fits it."""


def repeated(texts: Sequence[str]) -> str | None:
    """The first text that is there twice."""
    times = Counter(texts)
    return next((one for one in texts if times[one] > 1), None)


def _named(value: Any) -> Any:
    """A list of texts names its columns by the texts themselves."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return value
    if twice := repeated(value):
        raise ValueError(f"{twice!r} is there twice")
    return {one: one for one in value}


Named = Annotated[dict[str, str], BeforeValidator(_named)]
"""Column -> text, or a list of texts."""


class Ask(VisionModel):
    """Questions that a vision-language model answers about every image: a table with a column a question."""

    questions: Named = {}
    """Column -> question, in the order in which they are asked; a list names its columns by the questions."""
    prompts: Named = {}
    """Column -> prompt, said as it stands: an empty one asks a BLIP-2 for a caption, `a photo of` begins one for it."""
    template: str | None = None
    """With {} where the question goes. None: `Question: {} Answer:` for a BLIP-2, `{}` for a model that chats."""
    chat: bool = False
    """Each question comes after the earlier questions and answers about the same image."""
    context: Positive | None = None
    """Tokens that image, conversation and answer may take in all; None: as many as the model's configuration says."""
    temperature: Annotated[float, Field(ge=0.0, le=10.0)] | None = 0.0
    """0 is greedy: reproducible."""
    max_tokens: Positive | None = None
    """Of an answer. None: 32, or a service's own."""

    @model_validator(mode="after")
    def _something_to_ask(self) -> Self:
        check_columns([*self.prompts, *self.questions])
        if blank := [column for column, question in self.questions.items() if not question.strip()]:
            raise ValueError(f"the question of {blank[0]!r} is blank")
        if self.template is not None and "{}" not in self.template:
            raise ValueError(f"the template {self.template!r} has no {{}} where the question goes")
        if self.prompt is not None:
            raise ValueError("ask has no prompt of its own: give questions, or prompts: {column: prompt}")
        if self.batch is not None:
            raise ValueError("ask takes no `batch`: a conversation cannot wait a day for each turn")
        if self.context is not None and self.backend in ONLINE:
            raise ValueError(f"backend {self.backend} takes no `context`: only its service can count its tokens")
        return self


class Training(Section):
    """How a model is fine-tuned: what texts and images have in common."""

    epochs: Positive = 5
    batch_size: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    folds: Annotated[int, Field(ge=2)] = 5
    train_folds: list[Annotated[int, Field(ge=0)]] | None = None
    """Which of the folds are trained and scored; all by default. Rows of the others have no prediction."""
    seed: int = 42
    launcher: Literal["auto", "here", "task", "ray_train"] = "auto"
    workers_per_fold: Positive = 1
    cpus_per_worker: Positive | None = None
    """None: an equal share of the cluster for every fold."""
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None
    """None: 1 where the cluster has any GPU."""
    keep: Literal["best", "last"] = "best"
    """Which epoch's model a fold keeps: the best by its held-out score, or the last, which no held-out row chose."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    tracking: Literal["none", "wandb"] = "none"
    project: str = "seewhy"

    @model_validator(mode="after")
    def _folds_and_workers_fit(self) -> Self:
        chosen = self.train_folds
        if chosen is not None and (not chosen or max(chosen) >= self.folds):
            raise ValueError(f"train_folds {chosen} must name one or more of 0 to {self.folds - 1}")
        if self.workers_per_fold > 1 and self.launcher not in ("auto", "ray_train"):
            raise ValueError(f"{self.workers_per_fold} workers a fold need launcher ray_train, not {self.launcher}")
        return self


class TrainText(Training):
    encoder: str = "google-bert/bert-base-cased"
    """Hub name, local folder, or `tiny` (packaged)."""
    revision: str | None = None
    pooling: Literal["first", "mean"] = "first"
    max_length: Positive = 500


class TrainImage(Training):
    model: str = "microsoft/resnet-50"
    """Hub name, local folder, or `tiny` (packaged)."""
    revision: str | None = None
    scratch: bool = False
    """Take the model's configuration only and begin with random weights."""
    height: Positive | None = None
    """Pixels that the model sees; None, here and for the width: the model's own size."""
    width: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    warmup_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    augment: bool = True
    near_duplicates: Annotated[int, Field(ge=0, le=16)] | None = 3
    """Photos whose 128-bit fingerprints differ in at most so many bits stay in one fold; None: equal bytes only. A
    photo near two others ties them: a run stops where such a chain holds too much of the study for the folds."""


class ExplainImages(Section):
    method: Literal["gradcam", "gradcam++", "hirescam", "layercam"] = "gradcam"
    layer: str | None = None
    """Dotted path of the layer; None: found from the model."""
    explain: Annotated[str, BeforeValidator(lambda value: "true" if value is True else value)] = "predicted"
    """Which class: `predicted`, `true`, or the name of one; `class:true` for one that is named `true`, and so on. YAML
    reads true without quotes as no text, and yes and on as true: such names need quotes."""
    batch_size: Positive = 32
    sample: Positive | None = None
    """Explain a seeded sample of so many photos instead of all."""
    check_sample: Annotated[int, Field(ge=0)] = 100
    """Photos whose maps are checked by deletion, insertion and a model with a random head; 0: none."""
    seed: int = 0
    resources: Resources = Resources()


class Score(Section):
    """Texts that every image is held against, by a model that was not trained for them."""

    texts: Annotated[list[str], Field(min_length=1)]
    """In any language that the model knows; the scores are in their order."""
    templates: Annotated[list[str], Field(min_length=1)] = ["{}"]
    """Prompts with {} where a text goes, such as `a photo of {}`; of several, the mean embedding counts."""
    model: str = "google/siglip2-base-patch16-224"
    """Hub name or local folder of a SigLIP, SigLIP 2 or CLIP, or `tiny` (packaged)."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where a GPU computes in it."""
    device: str = "auto"
    batch_size: Positive = 32
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _texts_and_places(self) -> Self:
        if blank := [one for one in self.texts if not one.strip()]:
            raise ValueError(f"the text {blank[0]!r} is blank")
        if twice := repeated(self.texts):
            raise ValueError(f"the text {twice!r} is there twice")
        if wrong := [one for one in self.templates if "{}" not in one]:
            raise ValueError(f"the template {wrong[0]!r} has no {{}} where the text goes")
        return self


class Probe(Section):
    answers: Literal["beside", "instead"] | None = None
    """The answers of `ask` are words too, such as sky=moon: beside those of the captions, or instead of them."""
    tokenizer: Literal["auto", "janome", "sudachi", "english", "words"] = "auto"
    """auto: by the texts' letters."""
    form: Literal["base", "surface"] = "base"
    parts_of_speech: list[str] | None = None
    stop_words: list[str] | None = None
    user_dictionary: str | None = None
    """A CSV file of words of one's own, for janome: a URL, or a path beside the study."""
    min_texts: Annotated[int, Field(ge=1)] | Fraction = 5
    """A word in fewer texts is left out: a whole number, or a share such as 0.01."""
    max_texts: Annotated[int, Field(ge=1)] | Fraction = 0.95
    """A word in more texts is left out: a whole number, or a share."""
    max_words: Positive = 5000
    features: Literal["presence", "counts", "log_counts"] = "presence"
    scores: Literal["none", "beside", "instead"] = "none"
    """Whether the scores of the section `score` join the probe of captions or texts: beside their words, or instead."""
    subsamples: Positive = 50
    """Random halves of the texts from which the probe chooses again."""
    min_selection: Fraction = 0.5
    """A word that is chosen in a smaller share of them has no rank, and is not put forward."""
    folds: Annotated[int, Field(ge=2)] = 5
    multinomial: bool = False
    """One joint model of all classes instead of one against the rest for each."""
    seed: int = 0
    resources: Resources = Resources(rows_per_block=2000)


class ExplainWords(Section):
    max_evals: Annotated[int, Field(ge=4)] = 500
    row_batch_size: Positive = 5
    """Masked texts a text asks for at a time; the values depend on it. shap's own default for texts is 5."""
    sample: Positive | None = None
    """Explain a seeded sample of so many texts instead of all."""
    seed: int = 0
    resources: Resources = Resources(rows_per_block=32)


class Report(Section):
    top: Positive = 15
    min_items: Positive = 5
    """A word in fewer texts is no headline."""
    max_pages: Positive = 2000
    title_column: str = ""
    """Column of `manifest.keep` that names an image in the report; the first of them by default."""
    text_lang: Annotated[str, Field(pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*)?$")] = ""
    """Language tag of the texts (ja, en), so that browsers pick the right letters."""
    seed: int = 0
