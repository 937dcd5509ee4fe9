"""What the README and the pages beside it show is what seewhy takes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from seewhy.study import check_study

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]
WHOLE = {"title": "Films", "workspace": "out", "manifest": {"path": "films.csv", "image": "Poster", "target": "Rating"}}


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 10


@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_is_a_part_of_a_study(block: str) -> None:
    given: dict[str, Any] = yaml.safe_load(block)
    assert given
    check_study({**WHOLE, **given})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_into_a_page_meet_a_heading(page: Path) -> None:
    for target, part in re.findall(r"\]\(([^)#\s]*)#([^)]*)\)", page.read_text(encoding="utf-8")):
        text = ((page.parent / target) if target else page).read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
            for line in text.splitlines()
            if line[:1] == "#"
        }
        assert part in headings, (target, part, headings)
