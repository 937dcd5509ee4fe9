"""The image model: any transformers image classifier with a head of its own, how it is found, saved and loaded."""

import inspect
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedModel

from seewhy.failure import Fatal
from seewhy.hub import folder_digest, need_safetensors, pin
from seewhy.train.folder import local_copy
from seewhy.train.image_input import input_scale, input_size, processor_settings
from seewhy.train.pictures import fit_to
from seewhy.train.pretrained import quiet, safetensors_alone

_FACTS = "image_model.json"
_HEAD_STD = 0.02


@dataclass(frozen=True)
class ImageFacts:
    """What an image model is besides its weights.

    Attributes:
        classes: names of the outputs; empty for regression.
        mean, sd: of the training rows' targets, 0 and 1 for classes. Outputs are in the target's own unit.
        height, width: pixels that the network sees, the whole picture.
        image_mean, image_std: of red, green and blue, for values from 0 to 1.
    """

    classes: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0
    height: int = 224
    width: int = 224
    image_mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: tuple[float, ...] = (0.5, 0.5, 0.5)


class ImageModel(nn.Module):
    """A transformers image classifier that takes pixels of one size and answers in the target's unit."""

    def __init__(self, network: PreTrainedModel, facts: ImageFacts) -> None:
        super().__init__()
        self.network: PreTrainedModel = network
        self.facts = facts
        self._options = _size_options(network, facts.height, facts.width)

    def pixels(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Images (H, W, 3) uint8 -> (B, 3, height, width) uint8: the whole picture, nothing is cut off."""
        return as_pixels(np.stack([fit_to(image, self.facts.height, self.facts.width) for image in images]))

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, height, width) uint8 -> float32, what `forward` takes."""
        return normalised(unit(pixels), self.facts)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, height, width) normalised -> (B, 1) in the target's unit, or (B, K) logits of the classes."""
        logits = self.network(pixel_values=pixels, **self._options).logits
        # The target's unit needs more digits than bfloat16 has.
        with torch.autocast(logits.device.type, enabled=False):
            return logits.float() * self.facts.sd + self.facts.mean

    def save_pretrained(self, folder: str | Path) -> None:
        """A transformers folder, whose logits are in standard deviations for a number, and the facts beside it."""
        facts = vars(self.facts)
        processor = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": self.facts.height, "width": self.facts.width},
            "resample": 2,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.facts.image_mean),
            "image_std": list(self.facts.image_std),
        }
        with quiet():
            self.network.save_pretrained(folder)
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(processor, indent=2))
        (Path(folder) / _FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "ImageModel":
        """Loads what `save_pretrained` wrote; FileNotFoundError where that is not all there."""
        told: dict[str, Any] = json.loads((Path(folder) / _FACTS).read_text())
        told |= {name: tuple(one) for name, one in told.items() if isinstance(one, list)}
        return cls(_load(str(folder), None, None, ()), ImageFacts(**told))


def load_image_model(url: str) -> ImageModel:
    """The model of one fold, in eval mode on the CPU, from any fsspec URL; nothing is unpickled."""
    with local_copy(url) as path:
        return ImageModel.from_pretrained(path).eval()


def as_pixels(pictures: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 as (B, 3, H, W): a view, its bytes stay where they are (channels last)."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def unit(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 -> float32 from 0 to 1."""
    return pixels.float() / 255


def normalised(pixels: torch.Tensor, facts: ImageFacts) -> torch.Tensor:
    """(B, 3, H, W) float from 0 to 1 -> what the network was trained on."""
    mean = torch.tensor(facts.image_mean, device=pixels.device)[:, None, None]
    std = torch.tensor(facts.image_std, device=pixels.device)[:, None, None]
    return (pixels - mean) / std


@dataclass(frozen=True)
class ImageBackbone:
    """A pretrained image classifier, pinned.

    Attributes:
        source: hub name or absolute path of a local folder.
        revision: commit, where `source` is a hub name.
        identity: the name and its commit, or a digest of the folder's files.
        height, width: pixels of its input.
        image_mean, image_std: of red, green and blue, for values from 0 to 1.
        scratch: its configuration alone counts; the weights are drawn.
    """

    source: str
    revision: str | None
    identity: str
    height: int
    width: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    scratch: bool = False

    def facts(self, classes: tuple[str, ...], mean: float, sd: float) -> ImageFacts:
        return ImageFacts(classes, mean, sd, self.height, self.width, self.image_mean, self.image_std)

    def network(self, classes: tuple[str, ...]) -> PreTrainedModel:
        """A fresh model on the CPU with a new head of K outputs, or of one where there are no classes.

        Raises:
            Fatal: the files lack weights that are not the head's, the model does not take pictures of this size, or it
            does not answer a picture with the logits of K outputs.
        """
        names = dict(enumerate(classes or ("target",)))
        config = _config(self.source, self.revision)
        config.id2label, config.label2id = names, {name: number for number, name in names.items()}
        config.problem_type = "single_label_classification" if classes else "regression"
        _mend_dropout(config)
        if self.scratch:
            if hasattr(config, "image_size"):
                config.image_size = self.height if self.height == self.width else [self.height, self.width]
            network = AutoModelForImageClassification.from_config(config, dtype=torch.float32)
        else:
            head = head_weights(config)
            network = _load(self.source, self.revision, config, head)
            _draw(network, head)
        _try(network, self.height, self.width, outputs=len(names))
        return network


def find_image_model(
    name: str,
    *,
    revision: str | None = None,
    scratch: bool = False,
    height: int | None = None,
    width: int | None = None,
) -> ImageBackbone:
    """Pins a model: a hub name to its commit, a local folder to its content, ``tiny`` to the packaged one.

    Args:
        height, width: pixels of the input; by default what the model was trained on.

    Raises:
        Fatal: there is no such model, it cannot be reached, or it is no image classifier that takes RGB.
    """
    source = str(Path(__file__).parents[1] / "demo" / "tiny_image") if name == "tiny" else name
    source = str(Path(source).resolve()) if Path(source).is_dir() else source
    if not scratch:
        need_safetensors(source)
    try:
        commit = pin(source, revision)
        config = _config(source, commit)
    except (OSError, ValueError, ImportError) as error:
        raise Fatal(f"cannot load the image model {name!r} (revision {revision}): {error}") from error
    if type(config) not in AutoModelForImageClassification._model_mapping:
        raise Fatal(f"{name!r} is a {config.model_type} model; one for image classification is needed, such as ResNet")
    seeing = getattr(config, "vision_config", None) or config  # CLIP and its kin read texts too
    channels = getattr(seeing, "num_channels", 3)
    processor = processor_settings(source, commit)
    if channels != 3 or processor.get("do_flip_channel_order"):
        raise Fatal(f"{name!r} takes {channels} channels, or blue before red; a model that takes RGB is needed")
    own_height, own_width = input_size(processor, seeing)
    mean, std = input_scale(processor)
    return ImageBackbone(
        source=source,
        revision=commit,
        identity=folder_digest(source) if commit is None else f"{name}@{commit}",
        height=height or own_height,
        width=width or own_width,
        image_mean=mean,
        image_std=std,
        scratch=scratch,
    )


def _config(source: str, revision: str | None) -> Any:
    with quiet():
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    config.architectures = config.architectures or []  # transformers looks through it where it has several classes
    return config


def _mend_dropout(config: Any) -> None:
    """MobileNets carry TensorFlow's share of values that are kept, 0.999 or 0.8, as the share that is dropped."""
    if config.model_type in ("mobilenet_v1", "mobilenet_v2") and config.classifier_dropout_prob > 0.5:
        config.classifier_dropout_prob = 1 - config.classifier_dropout_prob


def head_weights(config: Any) -> tuple[str, ...]:
    """Names of the weights whose shape depends on the number of classes: the head, whatever the architecture."""
    shapes = []
    for extra in (0, 1):
        other = deepcopy(config)
        other.id2label = dict(enumerate(str(one) for one in range(len(config.id2label) + extra)))
        with quiet(), torch.device("meta"):
            network = AutoModelForImageClassification.from_config(other)
        shapes.append({name: value.shape for name, value in network.named_parameters()})
    return tuple(name for name, shape in shapes[0].items() if shapes[1][name] != shape)


def _load(source: str, revision: str | None, config: Any, head: Sequence[str]) -> PreTrainedModel:
    """With all weights but the head's from the files. Without `config` it is a model that `save_pretrained` wrote."""
    options: dict[str, Any] = {} if config is None else {"config": config, "revision": revision}
    with quiet(), safetensors_alone(source):
        network, report = AutoModelForImageClassification.from_pretrained(
            source,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    wrong = {*report["missing_keys"], *(one[0] for one in report["mismatched_keys"])} - set(head)
    if wrong:
        raise Fatal(f"the files of {source} lack {len(wrong)} weights of the model, {min(wrong)} among them")
    return network


def _draw(network: PreTrainedModel, head: Sequence[str]) -> None:
    """A new head, also where the old one has as many outputs: what it stands for is something else."""
    with torch.no_grad():
        for name in head:
            weight = network.get_parameter(name)
            if weight.ndim > 1:
                weight.normal_(std=_HEAD_STD)
            else:
                weight.zero_()


def _size_options(network: PreTrainedModel, height: int, width: int) -> dict[str, Any]:
    """What a transformer over patches must be told where the picture's size is not its own."""
    size = getattr(network.config, "image_size", None)
    own = (size, size) if isinstance(size, int) else tuple(size or ())
    takes = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
    return {"interpolate_pos_encoding": True} if takes and own != (height, width) else {}


@torch.no_grad()
def _try(network: PreTrainedModel, height: int, width: int, *, outputs: int) -> None:
    """Raises Fatal where the network does not take pictures of this size, or does not answer as a classifier does.

    Before the training, and in words.
    """
    kind = network.config.model_type
    options = _size_options(network, height, width)
    try:
        answer = network.eval()(pixel_values=torch.zeros(1, 3, height, width), **options)
    except (ValueError, RuntimeError) as error:
        raise Fatal(f"the {kind} model does not take pictures of {height} x {width} pixels: {error}") from error
    finally:
        network.train()
    logits = getattr(answer, "logits", None)
    if not isinstance(logits, torch.Tensor):
        raise Fatal(f"the {kind} model answers without logits; one that gives a logit for each output is needed")
    if logits.shape != (1, outputs):
        shape = tuple(logits.shape)
        raise Fatal(f"the {kind} model answers {shape} for one picture and {outputs} outputs; (1, {outputs}) is needed")
