"""The packaged tiny ResNet: knows the objects of the streets, and a few hundred photos teach it the districts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, ResNetForImageClassification

import seewhy.demo
from seewhy.demo.districts import DISTRICTS, best_accuracy, draw_district
from seewhy.demo.photos import draw_photo
from seewhy.demo.train_image import LABELS, PIXELS, draw_scenes, pixels, told

FOLDER = Path(seewhy.demo.__file__).parent / "tiny_image"


@pytest.fixture(scope="module")
def model():
    return AutoModelForImageClassification.from_pretrained(FOLDER).eval()


def test_tells_the_objects_of_fresh_scenes(model):
    pool, truth = draw_scenes(200, np.random.default_rng(31))
    right = ((told(model, pool) > 0) == (truth > 0)).float().mean(0)
    assert right.mean() > 0.985
    assert right.min() > 0.95


def test_package_is_small_and_loads_as_float32(model):
    assert isinstance(model, ResNetForImageClassification)
    assert model.dtype == torch.float32
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000
    assert [model.config.id2label[index] for index in range(len(LABELS))] == list(LABELS)
    assert not any(district in (FOLDER / "config.json").read_text(encoding="utf-8") for district in DISTRICTS)
    assert json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["dtype"] == "float32"


def test_the_processor_squashes_the_whole_photo(model):
    photo = draw_photo(draw_district(np.random.default_rng(0), DISTRICTS[0]), np.random.default_rng(0)).image
    through = AutoImageProcessor.from_pretrained(FOLDER)(photo, return_tensors="pt")["pixel_values"]
    small = np.asarray(photo.resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert torch.allclose(through[0], pixels(torch.from_numpy(small.copy())), atol=1e-5)


def test_last_stage_has_a_grid_of_8_by_8(model):
    states = model(pixel_values=torch.zeros(1, 3, PIXELS, PIXELS), output_hidden_states=True).hidden_states
    assert states[-1].shape[-2:] == (8, 8)


def drawn(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Photos of districts in turn, (N, 3, 128, 128) normalised, and the districts' indices."""
    rng = np.random.default_rng(seed)
    pool = np.empty((count, 3, PIXELS, PIXELS), np.uint8)
    for index in range(count):
        image = draw_photo(draw_district(rng, DISTRICTS[index % 4]), rng, size=(160, 240)).image
        pool[index] = np.asarray(image.resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    return pixels(torch.from_numpy(pool)), torch.arange(count) % 4


def test_480_photos_teach_the_districts():
    """All weights trained with a new head, as a study does, in short."""
    torch.manual_seed(0)
    model = AutoModelForImageClassification.from_pretrained(
        FOLDER, num_labels=4, problem_type="single_label_classification", ignore_mismatched_sizes=True
    )
    images, target = drawn(480, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=4 * 15)
    model.train()
    for _ in range(4):
        for rows in torch.randperm(480).split(32):
            loss = torch.nn.functional.cross_entropy(model(pixel_values=images[rows]).logits, target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    fresh, truth = drawn(400, seed=2)
    with torch.no_grad():
        guesses = torch.cat([model.eval()(pixel_values=part).logits for part in fresh.split(100)]).argmax(1)
    assert (guesses == truth).float().mean() > best_accuracy() - 0.06
