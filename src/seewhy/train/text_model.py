"""The text model: any transformers encoder with a linear head, how it is found, saved and loaded."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from seewhy.failure import Fatal
from seewhy.hub import folder_digest, has_weights, need_safetensors, pin
from seewhy.train.folder import local_copy
from seewhy.train.pretrained import quiet, safetensors_alone

POOLINGS = ("first", "mean")
_FACTS = "text_model.json"
_HEAD = "head.safetensors"


@dataclass(frozen=True)
class TextFacts:
    """What a text model is besides its weights.

    Attributes:
        pooling: ``first``, the last hidden state of the first token; ``mean``, of all tokens that are no padding.
        classes: names of the outputs; empty for regression.
        mean, sd: of the training rows' targets, 0 and 1 for classes. Outputs are in the target's own unit.
        max_length: tokens a text is cut to, special tokens included.
    """

    pooling: str = "first"
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0
    max_length: int = 500

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}; allowed: {', '.join(POOLINGS)}")


class TextModel(nn.Module):
    """An encoder and a linear head over its pooled last hidden state."""

    def __init__(self, encoder: PreTrainedModel, facts: TextFacts) -> None:
        super().__init__()
        self.encoder: PreTrainedModel = encoder
        self.facts = facts
        self.head = nn.Linear(encoder.config.hidden_size, max(1, len(facts.classes)))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(B, T), (B, T) -> (B, 1) in the target's unit, or (B, K) logits of the classes."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        # The head and the target's unit need more digits than bfloat16 has.
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            if self.facts.pooling == "first":
                pooled = hidden[:, 0]
            else:
                mask = attention_mask[:, :, None].float()
                pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            return self.head(pooled) * self.facts.sd + self.facts.mean

    def save_pretrained(self, folder: str | Path) -> None:
        """A transformers folder of the encoder, and beside it the head and the facts."""
        with quiet():
            self.encoder.save_pretrained(folder)
        save_file({name: value.contiguous() for name, value in self.head.state_dict().items()}, Path(folder) / _HEAD)
        facts = {**vars(self.facts), "classes": list(self.facts.classes)}
        (Path(folder) / _FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "TextModel":
        """Loads what `save_pretrained` wrote; FileNotFoundError where that is not all there."""
        facts = json.loads((Path(folder) / _FACTS).read_text())
        encoder = _load_encoder(str(folder), None)
        model = cls(encoder, TextFacts(**{**facts, "classes": tuple(facts["classes"])}))
        model.head.load_state_dict(load_file(Path(folder) / _HEAD))
        return model


def load_text_model(folder: str) -> tuple[TextModel, Any]:
    """The model of one fold, in eval mode on the CPU, and its tokenizer, from any fsspec URL."""
    with local_copy(folder) as path:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        return TextModel.from_pretrained(path).eval(), tokenizer


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder, pinned.

    Attributes:
        source: hub name or absolute path of a local folder.
        revision: commit, where `source` is a hub name.
        identity: the name and its commit, or a digest of the folder's files.
        max_length: most tokens it takes.
    """

    source: str
    revision: str | None
    identity: str
    max_length: int

    def tokenizer(self) -> Any:
        return _load_tokenizer(self.source, self.revision)

    def model(self) -> PreTrainedModel:
        return _load_encoder(self.source, self.revision)


def _load_encoder(source: str, revision: str | None) -> PreTrainedModel:
    with quiet(), safetensors_alone(source):
        model, report = AutoModel.from_pretrained(
            source,
            revision=revision,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    # Surplus weights are those of the head that it was pretrained with, and no text model uses the pooler.
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise Fatal(f"the files of {source} lack {len(missing)} weights of the encoder, {missing[0]} among them")
    return model


def _load_tokenizer(source: str, commit: str | None) -> Any:
    """From the local cache alone where it holds the whole model.

    Otherwise transformers asks the hub at every load for files that a tokenizer may have besides, and gives up where
    the hub refuses: a gated model without a token, or one that was withdrawn since.
    """
    if commit is not None and has_weights(source, commit):
        try:
            return _with_vocabulary(source, revision=commit, local_files_only=True)
        except (OSError, ValueError):
            pass  # the weights were fetched without the tokenizer
    return _with_vocabulary(source, revision=commit)


def _with_vocabulary(source: str, **options: Any) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    # Where its files are missing, transformers makes a tokenizer up that takes every word for unknown.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ValueError(f"the files of {source} hold no vocabulary of a tokenizer")
    return tokenizer


def find_encoder(name: str, *, revision: str | None = None) -> Encoder:
    """Pins an encoder: a hub name to its commit, a local folder to its content, ``tiny`` to the packaged one.

    A hub name stands for what the local cache holds of it, see ``hub.pin``.

    Raises:
        Fatal: there is no such model, it cannot be reached, or it is no encoder.
    """
    source = str(Path(__file__).parents[1] / "demo" / "tiny_encoder") if name == "tiny" else name
    source = str(Path(source).resolve()) if Path(source).is_dir() else source
    need_safetensors(source)
    try:
        commit = pin(source, revision)
        config = AutoConfig.from_pretrained(source, revision=commit, trust_remote_code=False)
        tokenizer = _load_tokenizer(source, commit)
    except (OSError, ValueError, ImportError) as error:
        raise Fatal(f"cannot load the text encoder {name!r} (revision {revision}): {error}") from error
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise Fatal(f"{name!r} is a {config.model_type} model; a text encoder such as BERT is needed")
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return Encoder(
        source=source,
        revision=commit,
        identity=folder_digest(source) if commit is None else f"{name}@{commit}",
        max_length=int(min(positions, tokenizer.model_max_length)),
    )
