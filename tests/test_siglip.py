"""Scores are the model's own, texts and images are read once each, and what cannot be scored says so."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor, BertConfig

from seewhy.failure import BAD_INPUT, Failure, Fatal
from seewhy.images import decode
from seewhy.siglip import SIGMOID, SOFTMAX, TextImageModel, described
from tests.siglip_models import MAKERS, WORDS
from tests.vlm.models import picture

TEXTS = ["a photo of a cat", "dog", "a pink rose 卵", "薔薇", "red car with a blue sea"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, make in MAKERS.items():
        found[name] = tmp_path_factory.mktemp("models") / name
        make(found[name])
    return found


def pixels(seed: int, width: int = 40, height: int = 48) -> np.ndarray:
    return decode(picture(seed, width, height))


def own(folder: Path, image: np.ndarray, text: str) -> tuple[float, float]:
    """The model's own forward pass on one image and one text, as its documentation has it: logit and sigmoid of it."""
    processor, network = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    options = {
        "siglip": {"padding": "max_length", "max_length": 64},
        # The processor's own defaults are those of one size of model, and hide what the folder says.
        "siglip2": {"padding": "max_length", "max_length": 64, "patch_size": 8, "max_num_patches": 16},
        "clip": {"padding": True},
    }
    asked = options[network.config.model_type]
    inputs = processor(text=[text], images=[Image.fromarray(image)], return_tensors="pt", **asked)
    with torch.no_grad():
        logit = network(**inputs).logits_per_image[0, 0]
    return logit.item(), logit.sigmoid().item()


@pytest.mark.parametrize("kind", MAKERS)
def test_one_text_and_one_image_are_the_model_s_own_forward_pass(folders: dict[str, Path], kind: str) -> None:
    model = TextImageModel(model=str(folders[kind]), device="cpu")
    images = [pixels(0), pixels(1, 64, 20), pixels(2, 31, 90)]
    texts = model.text_embeddings(TEXTS)
    logits = model.logits(model.image_embeddings([model.prepared(one) for one in images]), texts)
    chances = model.probabilities(logits)
    assert logits.shape == (3, 5)
    for i, image in enumerate(images):
        for t, text in enumerate(TEXTS):
            logit, sigmoid = own(folders[kind], image, text)
            assert logits[i, t].item() == pytest.approx(logit, abs=1e-5)
            if kind != "clip":
                assert chances[i, t].item() == pytest.approx(sigmoid, abs=1e-5)
    assert logits.std(dim=0).min() > 0.1  # the images differ in what they are told
    assert logits.std(dim=1).min() > 0.1  # and so do the texts


def test_a_logit_by_hand(folders: dict[str, Path]) -> None:
    """Cosine 0.6 at scale e^3 and bias -2.3; CLIP has no bias."""
    image, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    model = TextImageModel(model=str(folders["siglip"]), device="cpu")
    logits = model.logits(image, texts)
    assert logits.tolist()[0] == pytest.approx([0.6 * math.exp(3) - 2.3, -2.3], abs=1e-5)
    assert model.probability == SIGMOID
    assert model.probabilities(logits)[0, 1].item() == pytest.approx(1 / (1 + math.exp(2.3)))
    model = TextImageModel(model=str(folders["clip"]), device="cpu")
    logits = model.logits(image, texts)
    assert logits.tolist()[0] == pytest.approx([0.6 * math.exp(3), 0.0], abs=1e-5)
    assert model.probability == SOFTMAX
    assert model.probabilities(logits)[0, 1].item() == pytest.approx(1 / (1 + math.exp(0.6 * math.exp(3))))


@pytest.mark.parametrize("kind", MAKERS)
def test_what_stands_beside_a_text_or_an_image_changes_nothing(folders: dict[str, Path], kind: str) -> None:
    model = TextImageModel(model=str(folders[kind]), device="cpu")
    together = model.text_embeddings(TEXTS)
    assert torch.allclose(together, model.text_embeddings(TEXTS, batch_size=2), atol=1e-6)
    assert torch.allclose(together[3], model.text_embeddings([TEXTS[3]])[0], atol=1e-6)
    images = [model.prepared(pixels(i, 40 + 7 * i, 48)) for i in range(4)]
    alone = torch.cat([model.image_embeddings([one]) for one in images])
    assert torch.allclose(model.image_embeddings(images), alone, atol=1e-6)
    assert torch.allclose(together.norm(dim=1), torch.ones(5), atol=1e-6)


def test_templates_are_averaged_as_directions(folders: dict[str, Path]) -> None:
    """The mean of the prompts' unit vectors, brought back to length 1; a single template is the prompt itself."""
    model = TextImageModel(model=str(folders["siglip"]), device="cpu")
    prompts = model.text_embeddings(["a photo of cat", "picture with cat", "a photo of dog", "picture with dog"])
    found = model.text_embeddings(["cat", "dog"], templates=["a photo of {}", "picture with {}"])
    for place, (first, second) in enumerate([(0, 1), (2, 3)]):
        mean = (prompts[first] + prompts[second]) / 2
        assert 0.05 < mean.norm() < 0.999  # so that bringing it back to length 1 is seen
        assert torch.allclose(found[place], mean / mean.norm(), atol=1e-6)
    assert torch.allclose(model.text_embeddings(["cat"], templates=["a photo of {}"])[0], prompts[0], atol=1e-6)
    braces = model.text_embeddings(["dog {0} {x}"], templates=["a photo of {}"])  # no format string: a text is a text
    assert torch.allclose(braces, model.text_embeddings(["a photo of dog {0} {x}"]), atol=1e-6)
    with pytest.raises(ValueError, match=r"'a photo' has no \{\} where the text goes"):
        model.text_embeddings(["cat"], templates=["a photo"])
    with pytest.raises(ValueError, match="0 texts and 1 templates"):
        model.text_embeddings([])


def test_siglip_reads_lower_case_and_clip_what_its_tokenizer_makes_of_it(folders: dict[str, Path]) -> None:
    assert {"DOG", "dog"} <= set(WORDS)  # two tokens, as in the tokenizer of SigLIP 2
    for kind, same in (("siglip", True), ("siglip2", True), ("clip", False)):
        model = TextImageModel(model=str(folders[kind]), device="cpu")
        loud, low = model.text_embeddings(["DOG", "dog"])
        assert torch.allclose(loud, low, atol=1e-6) is same, kind


def test_a_text_is_never_cut_in_silence(folders: dict[str, Path]) -> None:
    model = TextImageModel(model=str(folders["siglip"]), device="cpu")
    model.text_embeddings([" ".join(["cat"] * 63)])  # and the token that ends it
    with pytest.raises(Fatal, match=r"has 65 tokens; the model reads 64: shorten it"):
        model.text_embeddings(["dog", " ".join(["cat"] * 64)])
    clip = TextImageModel(model=str(folders["clip"]), device="cpu")
    with pytest.raises(Fatal, match=r"has 78 tokens; the model reads 77"):
        clip.text_embeddings([" ".join(["cat"] * 76)])


def test_bfloat16_keeps_scale_and_bias_whole(folders: dict[str, Path], tmp_path: Path) -> None:
    """Rounded to bfloat16, a scale of e^4.71 is off by 0.9%: every logit with it."""
    MAKERS["siglip"](tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights |= {"logit_scale": torch.tensor([4.71]), "logit_bias": torch.tensor([-12.93])}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    half = TextImageModel(model=str(tmp_path), device="cpu", dtype="bfloat16")
    same = torch.tensor([[0.6, 0.8]])
    assert half.logits(same, same).item() == pytest.approx(math.exp(4.71) - 12.93, abs=1e-3)
    whole = TextImageModel(model=str(tmp_path), device="cpu")
    one = half.image_embeddings([half.prepared(pixels(0))])
    assert one.dtype == torch.float32
    assert (one @ whole.image_embeddings([whole.prepared(pixels(0))]).T).item() == pytest.approx(1, abs=1e-3)


def test_an_image_that_would_grow_beyond_memory_is_refused(folders: dict[str, Path]) -> None:
    model = TextImageModel(model=str(folders["clip"]), device="cpu")
    assert not isinstance(model.prepared(np.zeros((2, 200, 3), np.uint8)), Failure)
    found = model.prepared(np.zeros((2, 201, 3), np.uint8))
    assert isinstance(found, Failure)
    assert (found.kind, found.reason) == (BAD_INPUT, "too_narrow")
    assert found.detail.startswith("201 x 2 pixels")


def test_what_cannot_be_loaded_says_why(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="it is no model that takes images and text"):
        described(str(tmp_path), None)
    BertConfig(hidden_size=8).save_pretrained(tmp_path / "bert")
    with pytest.raises(Fatal, match="is a bert model; one of the kinds siglip, siglip2, clip can score texts"):
        TextImageModel(model=str(tmp_path / "bert"))
    MAKERS["siglip"](tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    del weights["logit_bias"]
    save_file(weights, tmp_path / "part" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Fatal, match="lacks 1 of its weights, 'logit_bias' among them"):
        TextImageModel(model=str(tmp_path / "part"))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_text_that_the_tokenizer_cannot_read_is_no_text(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    model = TextImageModel(model=str(folders[kind]), device="cpu")
    model.text_embeddings(["薔薇", "薔薇 と dog"])  # something of each is known
    for text in ("ひまわり ダリア", " ", ""):
        with pytest.raises(Fatal, match=f"knows nothing of the text '{text}': take a multilingual model"):
            model.text_embeddings(["dog", text])
    MAKERS["clip"](tmp_path / "mute")  # transformers reads a folder without a tokenizer as one without words
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "mute" / name).unlink()
    with pytest.raises(Fatal, match="knows nothing of the text 'a dog'"):
        TextImageModel(model=str(tmp_path / "mute"), device="cpu").text_embeddings(["a dog"])


def test_a_folder_is_named_by_its_files(folders: dict[str, Path], tmp_path: Path) -> None:
    MAKERS["siglip"](tmp_path / "siglip")
    named = described(str(tmp_path / "siglip"), None)[1]
    assert named == described(str(folders["siglip"]), None)[1]
    (tmp_path / "siglip" / "model.safetensors").write_bytes(b"other")
    assert described(str(tmp_path / "siglip"), None)[1]["digest"] != named["digest"]
