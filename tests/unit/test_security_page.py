"""The page on security names tests that exist: a defence without its test is a claim."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py)(?:::(\w+))?`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 20
    missing = []
    for file, test in named:
        texts = [place.read_text(encoding="utf-8") for place in (ROOT / "tests").rglob(Path(file).name)]
        if not any(not test or re.search(rf"def {test}\b", text) for text in texts):
            missing.append(f"{file}::{test}")
    assert missing == []


def test_every_folder_that_the_page_names_exists() -> None:
    folders = re.findall(r"`(tests/\w+)`", PAGE.read_text(encoding="utf-8"))
    assert folders
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
