"""What the cards of a run's networks say of the whole run."""

from dataclasses import replace

from hub_export.cards.benchmark import benchmark_table, note_of
from hub_export.cards.records import without_paths

from ...trials.records import RECORDS, record

TESTED = [trial for trial in RECORDS if not trial.held_out]


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_the_table_of_several_data_sets_and_networks() -> None:
    other = record("lp2", 2, 55.5, "pets", "vgg16")
    header, _, *rows = cells(benchmark_table([*TESTED, other], {"dtd/resnet18/lp2-seed2": "me/run-lp2-seed2"}))
    assert header == ["data set", "network", "variant", "seed 1", "seed 2", "seed 3", "mean ± std", "parameters"]
    link = "[91.00](https://huggingface.co/me/run-lp2-seed2)"
    assert rows[1] == ["DTD", "`resnet18`", "`lp2`", "90.00", link, "failed", "90.50 ± 0.71", "1,234,567"]
    assert rows[-1] == ["PETS", "`vgg16`", "`lp2`", "", "55.50", "", "55.50", "1,234,567"]
    assert len(rows) == 5  # a variant of which every trial failed has no figure


def test_notes() -> None:
    base, lp2 = TESTED[0], next(trial for trial in TESTED if trial.variant == "lp2")
    assert note_of(base, TESTED) == "DTD, base, seed 1: top-1 80.00 %; mean of 3 seeds: 81.00 ± 1.00"
    assert note_of(lp2, TESTED) == "DTD, lp2, seed 1: top-1 90.00 %; mean of 2 seeds: 90.50 ± 0.71"
    assert note_of(base, [base]) == "base, seed 1: top-1 80.00 %"
    long = replace(base, variant=400 * "lp2 ")
    assert len(note_of(long, [long])) <= 500


def test_local_paths_in_a_text_keep_their_last_part() -> None:
    texts = {
        "[Errno 28] No space left: '/home/me/run/trial.json', so": "[Errno 28] No space left: 'trial.json', so",
        "| ~/me/cats | /data/dogs |": "| cats | dogs |",
        r"of C:\Users\me\cats.": "of cats.",
        "org/name, 1/2, https://x.org/a/b, lr 1e-3/2": "org/name, 1/2, https://x.org/a/b, lr 1e-3/2",
    }
    assert {text: without_paths(text) for text in texts} == texts
