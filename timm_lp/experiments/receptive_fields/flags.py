"""The command line of the receptive fields."""

from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from typing import Literal, get_args

from ...command import CommandLine
from ...settings import SEEDS, Settings, default, setting

EXAMPLE_NETWORK = "alexnet"
UNITS = 17  # neurons or images in each group of Figure 1g
Form = Literal["isotropic", "diagonal", "full"]
FORMS = get_args(Form)
INPUTS = ("images", "noise")
WEIGHTS = ("trained", "untrained")
_OF_NETWORK = ("images", "num_images", "inputs", "weights", "unit")


@dataclass(frozen=True)
class FieldsSettings(Settings):
    """What to fit, and how."""

    networks: list[str] = setting(
        [],
        "registered name, hf-hub:, local-dir: or a saved network's folder",
        nargs="*",
        metavar="NETWORK",
        positional=True,
    )
    offsets: Path | None = setting(
        None, "offsets of synapses: group,x,y, and neuron where there are several", Path, metavar="CSV"
    )
    tap: list[float] = setting(
        [],
        "step of the grid on which offsets lie (pixels, rounded micrometres), in their unit: one, or x and y",
        float,
        metavar="WIDTH",
    )
    images: Path | None = setting(
        None, "folder of images; else crops of scikit-learn's two photographs", Path, metavar="DIR"
    )
    num_images: int = setting(UNITS, "images, and inputs of noise", limits=(1, inf))
    inputs: list[str] = setting([*INPUTS], "what a network sees", choices=INPUTS)
    weights: list[str] = setting([], "weights of the networks; both if not given", choices=WEIGHTS)
    unit: str = setting("image", "what a field is of", choices=("image", "neuron"))
    form: Form = setting(FORMS[0], "form of C; the paper's is isotropic", choices=FORMS)
    seed: int = setting(0, "settles crops, noise, random weights and draws", limits=SEEDS)
    output_dir: Path = setting(Path("output/receptive_fields"), "where the results go")

    @property
    def is_example(self) -> bool:
        """Whether neither a network nor offsets are named."""
        return not self.networks and self.offsets is None

    def check_together(self) -> None:
        """Refuse what no run could use."""
        has_network = bool(self.networks) or self.is_example
        usual = {option.name: default(option) for option in fields(self)}
        for name in () if has_network else _OF_NETWORK:
            if getattr(self, name) != usual[name]:
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(f"`{flag}` must come with a NETWORK, got `--offsets` alone. Name a network.")
        if self.images is not None and "images" not in self.inputs:
            raise ValueError("`--images` must come with `--inputs images`, got noise alone. Leave one of them out.")
        if self.form == "full" and has_network:
            raise ValueError(
                "`--form` must be isotropic or diagonal for a network, got full. "
                "A turned density has no closed integral over a kernel's taps."
            )
        if self.is_example and self.weights:
            raise ValueError("`--weights` must come with a NETWORK, got none. Name a network.")
        if self.tap:
            self._check_tap()

    def _check_tap(self) -> None:
        if self.offsets is None or len(self.tap) > 2:
            raise ValueError("`--tap` must be one number, or one for x and one for y, and come with `--offsets`.")
        if not all(0 < width < inf for width in self.tap):
            raise ValueError(f"`--tap` must be above 0 and finite, got {' '.join(f'{width:g}' for width in self.tap)}.")
        if self.form == "full":
            raise ValueError(
                "`--form` must be isotropic or diagonal with `--tap`, got full. A turned density has no closed "
                "integral over a step of the grid."
            )


COMMAND = CommandLine(
    "timm-lp receptive-fields",
    FieldsSettings,
    "Fit the MPND (Eq. 1) to receptive fields: of a network's first convolution, or a user's own. "
    f"Without arguments: a synthetic example and {EXAMPLE_NETWORK} with random weights.",
)
parse_arguments = COMMAND.parse
