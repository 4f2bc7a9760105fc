"""The pages: their links, and what a build of the package makes of those of the README."""

import re
import shutil
import subprocess
import sys
import tarfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = """
import sys
sys.path.insert(0, ".ci")
import build_backend
build_backend.build_sdist("dist")
"""
URL = "https://example.org/us/timm-lp"


def _build(folder: Path, urls: str = "") -> tuple[Message, set[str], str]:
    """Return the metadata and the files of a source distribution without most of the code, and what the build said."""
    (folder / "timm_lp").mkdir(parents=True)
    for name in ("README.md", "LICENSE", ".ci/build_backend.py", "timm_lp/__init__.py", "timm_lp/py.typed"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + urls)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=folder, capture_output=True, text=True, check=True)
    (path,) = (folder / "dist").iterdir()
    with tarfile.open(path) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
        (info,) = (name for name in file.getnames() if re.fullmatch(r"[^/]+/PKG-INFO", name))
        text = file.extractfile(info).read().decode()  # type: ignore[union-attr] # a file
    return Parser().parsestr(text), names, done.stderr


def test_links_of_the_readme_are_absolute_where_the_project_says_where_it_is(tmp_path: Path) -> None:
    metadata, names, said = _build(tmp_path / "there", f'\n[project.urls]\nRepository = "{URL}"\n')
    page = metadata.get_payload()
    assert f"]({URL}/raw/HEAD/.github/masks.png)" in page
    assert f"]({URL}/blob/HEAD/timm_lp/experiments/sudoku/README.md#a-measured-result)" in page
    assert "](https://openreview.net/forum?id=0LSAmFCc4p)" in page
    assert not re.findall(r"\]\((?!https:)", page)
    assert "Repository" not in said
    assert {"pyproject.toml", ".ci/build_backend.py", "timm_lp/py.typed"} <= names

    metadata, _, said = _build(tmp_path / "nowhere")
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    assert "pyproject.toml has no Repository in [project.urls]: the README's links hold in a clone only." in said


def test_every_link_and_picture_of_a_page_is_there_and_every_picture_is_shown() -> None:
    ours = (".github", "hub_export", "model_cards", "timm_lp")  # a clone may hold an environment and results too
    pages = [ROOT / "README.md", *(page for folder in ours for page in (ROOT / folder).rglob("*.md"))]
    links = [
        (page.parent / link).resolve()
        for page in pages
        for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    ]
    assert [str(link) for link in links if not link.exists()] == []
    assert {path for path in (ROOT / ".github").iterdir() if path.suffix in (".png", ".gif")} <= {*links}
