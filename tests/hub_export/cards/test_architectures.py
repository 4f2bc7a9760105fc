import re
import statistics
from pathlib import Path

import pytest
import timm
from huggingface_hub import ModelCard

from hub_export.cards import architectures
from hub_export.cards.architectures import is_current, orphans
from hub_export.cards.templates import architecture_facts
from hub_export.cli import main
from timm_lp.models import ARCHITECTURES, VARIANTS
from timm_lp.models.small_stem import SMALL_STEMS

CARDS = Path(__file__).parents[3] / "model_cards"
NAMES = [architecture.name for architecture in ARCHITECTURES]
ROWS = {"base", *(variant.prefix for variant in VARIANTS)}


# The other cards are made in the same way.
FAMILIES = {"resnet18", "resnet18_small_stem", "convnextv2_tiny", "replknet31"}


@pytest.mark.parametrize(
    "name", [name if name in FAMILIES else pytest.param(name, marks=pytest.mark.exhaustive) for name in NAMES]
)
def test_card_is_current(name: str) -> None:
    assert is_current(name, CARDS), "Run `timm-lp-hub cards` and commit what it writes."


def test_cards_tell_all() -> None:
    for name in NAMES:
        card = ModelCard.load(CARDS / f"{name}.md")
        assert card.data.library_name == "timm"
        for variant in VARIANTS:
            assert f"`{variant.prefix}_{name}`" in card.text
        known = {tag: cfg for tag, cfg in timm.models.get_arch_pretrained_cfgs(name).items() if cfg.has_weights}
        assert ("None are published" in card.text) == (not known)
        assert ("pretrained=True" in card.text) == bool(known)


def test_there_is_no_other_card() -> None:
    assert orphans(CARDS) == []


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("resnet18", "61,947,880 | 24,000 | 9.842 G"),  # 61,537,480 and 800 classes of 513 parameters each
        ("resnet18_small_stem", "61,914,088 | 24,000 | 769.3 M"),  # 61,452,388 and 900 classes; one image of 32 pixels
        ("alexnet", "71,867,304 | 5,760 | 3.417 G"),  # 68,589,704 and 800 classes of 4,097 parameters each
        ("replknet31", "12,202,024 | 142,720 | 2.509 G"),  # 11,791,624 and 800 classes of 513 parameters each
    ],
)
def test_counts(name: str, figures: str) -> None:
    line = next(line for line in (CARDS / f"{name}.md").read_text().splitlines() if line.startswith(f"| `lp2_{name}`"))
    assert re.sub(r" +", " ", line).endswith(f"| {figures} |")


def test_the_first_pages_table_is_that_of_the_cards() -> None:
    table = (CARDS.parent / "README.md").read_text().partition("<!-- networks -->\n")[2].partition("\n\n")[0]
    rows = [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    assert len(rows) > 5
    for name, *stated in rows:
        lines = re.sub(r" +", " ", (CARDS / f"{name}.md").read_text()).splitlines()
        figures = [next(line for line in lines if line.startswith(f"| `{own}` |")) for own in (name, f"lp2_{name}")]
        counts = [[cell.strip() for cell in figure.split("|")[-4:-1]] for figure in figures]
        parameters = [f"{int(count[0].replace(',', '')) / 1e6:.1f}" for count in counts]
        macs = [f"{float(count[2].removesuffix(' G')):.2f}" for count in counts]
        assert stated[:4] == [*parameters, *macs], name


def test_licence_of_weights_that_forbid_commercial_use() -> None:
    section = (CARDS / "convnextv2_tiny.md").read_text().partition("## Base weights")[2]
    assert section.count("cc-by-nc-4.0") == 1 + len(timm.models.get_arch_pretrained_cfgs("convnextv2_tiny"))


def test_usage_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (CARDS / "resnet18.md").read_text(), re.DOTALL)
    small = "pretrained=False, layers=[1, 1, 1, 1], channels=[8, 8, 16, 16]"  # what tests without a network can build
    names: dict[str, object] = {}
    exec(code.replace("pretrained=True", small), names)
    assert names["model"].num_classes == 10  # type: ignore[attr-defined]


def test_figures_of_the_paper_are_whole() -> None:
    for table in architecture_facts()["paper"]:
        for name, rows in table["figures"].items():
            assert name in NAMES
            assert rows.keys() <= ROWS
            assert all(len(values) == len(table["columns"]) for values in rows.values())


def test_figures_of_the_paper_stand_with_the_form_that_was_measured() -> None:
    columns = {}
    for name in ("resnet18", "resnet18_small_stem", "vgg16"):
        header = re.search(r"^Table 1\..*\n\n\| network (.*)\|$", (CARDS / f"{name}.md").read_text(), re.MULTILINE)
        assert header
        columns[name] = [column.strip() for column in header[1].split("|")[1:]]
    assert columns == {
        "resnet18": ["TinyImageNet"],
        "resnet18_small_stem": ["CIFAR-100"],
        "vgg16": ["CIFAR-100", "TinyImageNet"],
    }
    for table in architecture_facts()["paper"]:
        for base, small in SMALL_STEMS.items():
            forms = [table["figures"][name] for name in (base, small.name) if name in table["figures"]]
            for rows in zip(*(form.values() for form in forms), strict=True):
                for values in zip(*rows, strict=True):
                    assert sum(value is not None for value in values) == 1


def test_card_names_the_form_with_a_small_stem() -> None:
    for name in NAMES:
        text = (CARDS / f"{name}.md").read_text()
        assert (f"there is `{name}_small_stem`" in text) == (name in SMALL_STEMS)
        assert ("Its first convolution is 3x3 with stride 1" in text) == name.endswith("_small_stem")
        assert f"one image of {'32x32' if name.endswith('_small_stem') else '224x224'} pixels" in text


def test_figures_of_the_paper_add_up() -> None:
    tables = {table["table"]: table["figures"] for table in architecture_facts()["paper"]}
    for rows in tables[2].values():
        assert sum(wins for (wins,) in rows.values()) == 19
    wins = {variant: sum(rows[variant][0] for rows in tables[2].values()) for variant in ("large", "lp2", "lp4", "lp8")}
    assert wins == {"large": 21, "lp2": 57, "lp4": 4, "lp8": 13}
    for values in tables[4]["convnextv2_tiny"].values():
        *scores, average = map(float, values)
        assert average == pytest.approx(statistics.fmean(scores), abs=0.01)
    for name, rows in tables[10].items():
        for variant, (top1, *_) in rows.items():
            assert tables[1][name][variant][1].startswith(top1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the cards of two small architectures, as if there were no others."""
    few = [architecture for architecture in ARCHITECTURES if architecture.name in ("alexnet", "vgg16")]
    monkeypatch.setattr(architectures, "ARCHITECTURES", few)
    main(["cards", "--folder", str(tmp_path)])
    return tmp_path


def test_command_writes_what_it_then_finds_current(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["alexnet.md", "vgg16.md"]
    main(["cards", "--check", "--folder", str(folder)])


def test_command_names_what_is_not_current(folder: Path) -> None:
    (folder / "alexnet.md").write_text((folder / "alexnet.md").read_text().replace("52.25", "99.25"))
    (folder / "vgg16.md").rename(folder / "lenet.md")
    (folder / "notes.md").write_text("# Lp-convolutions in my own words")
    with pytest.raises(SystemExit, match=r"these cards are not current: alexnet, vgg16, lenet\. Run"):
        main(["cards", "--check", "--folder", str(folder)])
    main(["cards", "--folder", str(folder)])
    main(["cards", "--check", "--folder", str(folder)])
    assert sorted(path.name for path in folder.iterdir()) == ["alexnet.md", "notes.md", "vgg16.md"]


def test_weights_of_another_timm_do_not_make_a_card_stale(folder: Path) -> None:
    path = folder / "alexnet.md"
    current = path.read_text()
    other = current.replace(f"timm {timm.__version__} knows", "timm 1.0.0 knows").replace("bsd-3-clause", "mit")
    path.write_text(other)
    assert is_current("alexnet", folder)
    path.write_text(other.replace("11x11", "9x9"))
    assert not is_current("alexnet", folder)
    path.write_text(current.replace("bsd-3-clause", "mit"))
    assert not is_current("alexnet", folder)


def test_command_outside_of_a_clone(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--folder must be a folder, got"):
        main(["cards", "--folder", str(tmp_path / "none")])
