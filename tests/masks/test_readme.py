import re
from pathlib import Path

from timm_lp.masks import cli

README = Path(cli.__file__).parent / "README.md"


def test_its_code_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert {"alpha", "gamma", "theta", "C"} <= names.keys()


def test_it_lists_the_files_that_the_command_writes(tmp_path: Path) -> None:
    cli.main(["--output-dir", str(tmp_path)])
    listed = re.findall(r"`(\w+\.\w+)`", "".join(re.findall(r"^\| `.*\|$", README.read_text(), re.MULTILINE)))
    assert sorted(listed) == sorted(path.name for path in tmp_path.iterdir())


def test_its_links_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
