"""The YAML that a user writes, as pydantic models: unknown keys refused, errors that name key and value."""

import difflib
import os
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from seewhy import storage
from seewhy.failure import KINDS, Fatal
from seewhy.fetch.addresses import AddressRule

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


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=False)

    def __hash__(self) -> int:  # pydantic's own cannot hash lists
        return hash(self.model_dump_json())


class Manifest(_Section):
    """Where the table of images is, and what its columns mean."""

    path: str
    format: Literal["auto", "csv", "tsv", "parquet", "jsonl"] = "auto"
    image: str | None = None
    """Column with a URL, or a path relative to the manifest."""
    target: str
    text: str | None = None
    """Column with a text that replaces captioning."""
    keep: list[str] = []
    """Columns that ride along into the report."""
    task: Literal["auto", "regression", "classification"] = "auto"
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _something_to_read(self) -> "Manifest":
        if self.image is None and self.text is None:
            raise ValueError("name the column of the images (image), of the texts (text), or both")
        return self


class Resources(_Section):
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


class Fetch(_Section):
    max_bytes: Bytes = 20_000_000
    max_pixels: Positive = 50_000_000
    timeout_sec: Annotated[float, Field(gt=0)] = 30.0
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
    resources: Resources = Resources(cpus_per_worker=0.5, rows_per_block=256)

    @model_validator(mode="after")
    def _addresses_can_be_read(self) -> "Fetch":
        AddressRule(self.allow_private)
        return self


class Caption(_Section):
    backend: Literal["tiny", "hf", "fake"] = "tiny"
    model: str | None = None
    """Hub name or local folder, for `hf`."""
    revision: str | None = None
    prompt: str | None = None
    """None: the backend's default. An empty one asks a BLIP-2 for a caption without a prompt."""
    temperature: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    """0 is greedy: reproducible. None, here and below: the backend's own (`hf`: 1.0, 0.95, 1000; `tiny`: greedy)."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    max_tokens: Positive | None = None
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_size: Positive | None = None
    trust_remote_code: bool = False
    options: dict[str, Any] = {}
    """Further keyword arguments of the backend's own."""
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _model_where_needed(self) -> "Caption":
        if self.backend == "hf" and self.model is None:
            raise ValueError(
                "backend hf needs `model`: a hub name such as Salesforce/blip2-opt-2.7b, or a local folder"
            )
        return self


class TrainText(_Section):
    encoder: str = "google-bert/bert-base-cased"
    """Hub name, local folder, or `tiny` (packaged)."""
    revision: str | None = None
    pooling: Literal["first", "mean"] = "first"
    epochs: Positive = 5
    batch_size: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Positive = 500
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
    def _folds_and_workers_fit(self) -> "TrainText":
        chosen = self.train_folds
        if chosen is not None and (not chosen or max(chosen) >= self.folds):
            raise ValueError(f"train_folds {chosen} must name one or more of 0 to {self.folds - 1}")
        if self.workers_per_fold > 1 and self.launcher not in ("auto", "ray_train"):
            raise ValueError(f"{self.workers_per_fold} workers a fold need launcher ray_train, not {self.launcher}")
        return self


class ExplainWords(_Section):
    max_evals: Annotated[int, Field(ge=4)] = 500
    row_batch_size: Positive = 5
    """Masked texts a text asks for at a time; the values depend on it. shap's own default for texts is 5."""
    sample: Positive | None = None
    """Explain a seeded sample of so many texts instead of all."""
    seed: int = 0
    resources: Resources = Resources(rows_per_block=32)


class Report(_Section):
    top: Positive = 15
    min_items: Positive = 5
    """A word in fewer texts is no headline."""
    max_pages: Positive = 2000
    title_column: str = ""
    """Column of `manifest.keep` that names an image in the report; the first of them by default."""
    text_lang: Annotated[str, Field(pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*)?$")] = ""
    """Language tag of the texts (ja, en), so that browsers pick the right letters."""
    seed: int = 0


class Study(_Section):
    """A whole study. See README for an example."""

    title: str
    question: str = ""
    workspace: str
    manifest: Manifest
    limit: Positive | None = None
    """Only the first so many rows of the manifest."""
    max_failed_fraction: Fraction = 0.2
    retry: list[Literal["transient", "rejected", "bad_input"]] = ["transient"]
    fetch: Fetch = Fetch()
    caption: Caption = Caption()
    train_text: TrainText = TrainText()
    explain_words: ExplainWords = ExplainWords()
    report: Report = Report()


assert set(get_args(get_args(Study.model_fields["retry"].annotation)[0])) == set(KINDS)


def load_study(path: str, *, limit: int | None = None) -> Study:
    """Reads and checks a study; manifest and workspace given as relative paths are beside the study.

    Args:
        path: a YAML file at any fsspec URL.
        limit: overrides the study's own `limit`.

    Raises:
        Fatal: no such file, no YAML, or keys and values that are not allowed, all of them named.
    """
    try:
        text = storage.read_whole(path).decode("utf-8")
        value = yaml.safe_load(text)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise Fatal(f"no study at {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Fatal(f"{path} is not YAML: {error}") from error
    if not isinstance(value, dict):
        raise Fatal(f"{path} must hold keys and values, not {type(value).__name__}")
    if limit is not None:
        value["limit"] = limit
    study = check_study(value, name=path)
    folder = path.rsplit("/", 1)[0] if "/" in path else "."
    return study.model_copy(
        update={
            "workspace": _beside(folder, study.workspace),
            "fetch": study.fetch.model_copy(update={"roots": [_beside(folder, root) for root in study.fetch.roots]}),
            "manifest": study.manifest.model_copy(update={"path": _beside(folder, study.manifest.path)}),
            "caption": study.caption.model_copy(update={"model": _local_model(folder, study.caption.model)}),
            "train_text": study.train_text.model_copy(
                update={"encoder": _local_model(folder, study.train_text.encoder)}
            ),
        }
    )


def check_study(value: dict[str, Any], *, name: str = "study") -> Study:
    """Builds a Study from plain values; see `load_study` for the errors."""
    try:
        return Study.model_validate(value)
    except ValidationError as error:
        lines = [_explain(e) for e in error.errors()]
        raise Fatal(f"{name}: {len(lines)} mistake{'s' * (len(lines) > 1)}\n" + "\n".join(lines)) from None


def _beside(folder: str, path: str) -> str:
    path = os.path.expanduser(path.removeprefix("file://"))
    if "://" in path or os.path.isabs(path):
        return path
    joined = storage.join(folder, path)
    return joined if "://" in folder else os.path.abspath(joined)


def _local_model(folder: str, model: str | None) -> str | None:
    """A model given as ./path or ../path is beside the study; anything else is a hub name or an absolute path."""
    return _beside(folder, model) if model and model.startswith((".", "~")) else model


def _explain(error: Any) -> str:
    """One line: the key, the value, what is allowed."""
    location = [
        part
        for part in error["loc"]
        if not (isinstance(part, str) and part.startswith(("function-", "list[", "tuple[", "constrained")))
    ]
    key = ".".join(str(part) for part in location) or "study"
    if error["type"] == "extra_forbidden":
        allowed = _keys_at(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"  {key}: unknown key{hint}; allowed here: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"  {key}: missing"
    message = error["msg"].removeprefix("Value error, ")
    shown = error["input"] if not isinstance(error["input"], dict) else "given"
    return f"  {key}: {shown!r} is not allowed: {message[0].lower()}{message[1:]}"


def _keys_at(location: list[Any]) -> list[str]:
    model: Any = Study
    for part in location:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        model = field.annotation if field else None
    return sorted(model.model_fields) if hasattr(model, "model_fields") else []
