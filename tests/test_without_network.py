"""Each command that starts from trained weights says at once that there is no way to them."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from timm_lp.cli import COMMANDS

FINETUNE = "finetune --dataset digits --shots 1 --epochs 1 --img-size 32 --output-dir {folder}"
FILES = "or give --no-pretrained, or --checkpoint with a file of yours."
FOLDER = "or name a folder that holds a network"


@pytest.fixture
def start() -> Callable[[str], None]:
    """Return a function that starts a command in this process."""

    def run(line: str) -> None:
        name, *arguments = line.split()
        import_module(f"{COMMANDS[name].module}.cli").main(arguments)

    return run


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        (f"{FINETUNE} --model resnet18 --variants lp2", FILES),
        (f"{FINETUNE} --model resnet18.tv_in1k --variants large-reinit --lr-sweep 1e-3 1e-4", FILES),
        ("masks lp2_resnet18 --output-dir {folder}", FOLDER),
        ("masks hf-hub:someone/cats --output-dir {folder}", FOLDER),
        ("robustness resnet18 --compute --dataset digits --output-dir {folder}", FOLDER),
        ("brain rsa --models resnet18 --output-dir {folder}", FOLDER),
        ("receptive-fields resnet18 --output-dir {folder}", "`--weights untrained` needs none."),
        ("hub stage lp2_resnet18 {folder}", "or give a folder or --checkpoint."),
        ("hub stage hf-hub:someone/cats {folder}", "or give a folder or --checkpoint."),
        ('hub push resnet18 someone/cats --model-args {{"in_chans":1}}', "or give a folder or --checkpoint."),
    ],
)
def test_a_command_ends_at_once(
    line: str, advice: str, start: Callable[[str], None], no_network: str, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        start(line.format(folder=tmp_path / "output"))
    assert f"{no_network} cannot be reached, and {tmp_path / 'empty'} does not hold the weights of " in str(ended.value)
    assert str(ended.value).count("\n") == 0
    assert advice in str(ended.value)
    assert not list(tmp_path.rglob("trial.json"))
