import shlex
from pathlib import Path

import pytest

from timm_lp.experiments.sudoku.config import SudokuConfig
from timm_lp.experiments.sudoku.flags import COMMAND, DEMO_RECIPE, RECIPES, command_line, parse_arguments
from timm_lp.models.sudoku import create_network

SHIPPED = sorted((path for path in RECIPES.iterdir() if path.name.endswith(".yaml")), key=str)


def test_the_defaults_are_the_papers_network_and_the_authors_training() -> None:
    config = SudokuConfig()
    assert (config.channels, config.depth, config.input) == (256, 10, "scalar")
    assert (config.epochs, config.batch_size, config.lr, config.schedule) == (20, 100, 1e-4, "constant")
    assert config.variants == ["base", "large", "lp2", "lp16", "lp256f"]
    assert not config.transpose


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variants": ["lp3"]}, "`variants` must be base or large or .*, got 'lp3'"),
        ({"seeds": [1, 1]}, r"`seeds` must name at least one, and none twice, got \[1, 1\]"),
        ({"input": "onehot"}, "`input` must be scalar or one-hot, got 'onehot'"),
        ({"schedule": "linear"}, "`schedule` must be constant or cosine, got 'linear'"),
        ({"mixed_precision": "fp16"}, "`mixed_precision` must be no or bf16, got 'fp16'"),
        ({"channels": 0}, "`channels` must be at least 1, got 0"),
        ({"puzzles": 1}, "`puzzles` must be at least 2, got 1"),
        ({"transpose": True, "augment": False}, "`transpose` must be used with `augment`, got it without"),
    ],
)
def test_refuses_what_no_run_could_use(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SudokuConfig(**settings)


@pytest.mark.parametrize(("seen", "steps"), [(None, 20), (1, 1), (8, 2), (9, 3)])
def test_a_training_ends_after_epochs_or_puzzles(seen: int | None, steps: int) -> None:
    assert SudokuConfig(epochs=4, puzzles_seen=seen, batch_size=4).num_steps(steps_per_epoch=5) == steps


def test_without_arguments_it_is_the_demonstration() -> None:
    config, action = parse_arguments([])
    assert action == "run"
    assert config == parse_arguments(["--config", "demo.yaml"])[0]
    assert config.variants == ["base", "lp2"]
    assert parse_arguments(["--lr", "0.5"])[0].channels == config.channels


@pytest.mark.parametrize(
    "flags", [["--data", "x.csv"], ["--channels", "8"], ["--depth", "10"], ["--input", "scalar"], ["--puzzles", "50"]]
)
def test_with_puzzles_or_a_network_it_is_not(flags: list[str]) -> None:
    config, _ = parse_arguments(flags)
    assert (config.test_puzzles, config.schedule) == (1000, "constant")


def test_what_is_done_in_place_of_a_run() -> None:
    for name in ("report", "masks", "ablate"):
        assert parse_arguments([f"--{name}"])[1] == name


@pytest.mark.parametrize("recipe", SHIPPED, ids=[path.name for path in SHIPPED])
def test_a_shipped_recipe_states_its_command_and_has_networks(recipe: Path) -> None:
    assert f"{COMMAND.launcher} --config {recipe.name}" in recipe.read_text()
    config, _ = parse_arguments(["--config", recipe.name])
    for variant in config.variants:
        assert create_network(variant, channels=2, depth=1, inputs=config.input).inputs == config.input


def test_the_demonstration_is_one_of_the_recipes() -> None:
    assert DEMO_RECIPE.name in [path.name for path in SHIPPED]


@pytest.mark.parametrize("flags", [[], ["--channels", "8", "--no-augment", "--puzzles-seen", "70", "--seeds", "3"]])
def test_the_command_of_a_trial_repeats_its_settings(flags: list[str]) -> None:
    config, _ = parse_arguments(flags)
    command = command_line(config, variants=["lp16"], seeds=[7])
    assert command.startswith(f"{COMMAND.launcher} ")
    again, action = parse_arguments(shlex.split(command.removeprefix(COMMAND.launcher)))
    assert action == "run"
    assert again.trial_settings() == config.trial_settings()
    assert (again.variants, again.seeds) == (["lp16"], [7])


def test_a_trial_does_not_depend_on_where_and_how_fast_it_runs() -> None:
    plain = SudokuConfig()
    other = SudokuConfig(
        output_dir="elsewhere", cpu_threads=3, checkpoint_seconds=0, variants=["lp2"], seeds=[9], ablate_puzzles=7
    )
    assert other.trial_settings() == plain.trial_settings()
    assert SudokuConfig(puzzles_seen=5).trial_settings() != plain.trial_settings()
