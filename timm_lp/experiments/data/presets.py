"""How a data set is read: the user's options, and presets, which are data sets on the Hub that need no script."""

from dataclasses import dataclass

DIGITS = "digits"


@dataclass(frozen=True)
class ReadOptions:
    """How a user wants a data set read; None leaves it to the preset, or to the data set itself.

    Attributes:
        dataset_config: Configuration on the Hub.
        dataset_revision: Commit, branch or tag on the Hub.
        image_column: Column of the images.
        label_column: Column of the classes.
        train_split: Split to draw from, or several joined by +.
        test_split: Split to test on.
        test_share: Share of a folder's images that is kept for the test, where nothing splits them.
    """

    dataset_config: str | None = None
    dataset_revision: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    train_split: str | None = None
    test_split: str | None = None
    test_share: float | None = None


@dataclass(frozen=True)
class Preset:
    """A data set on the Hub that has a short name, and how it is read.

    Attributes:
        id: Repository on the Hub.
        name: Its name in tables.
        revision: Commit that is read; None for the newest, whose commit is then kept with the results.
        image_column: Column of the images.
        label_column: Column of the classes.
        train_split: Split, or splits joined by +, to draw from.
        test_split: Split to test on.
        clip_columns: Columns that name a video clip, of which the middle frame alone is read; empty for photographs.
        frame_column: Column that orders the frames of a clip.
    """

    id: str
    name: str
    revision: str | None
    image_column: str = "image"
    label_column: str = "label"
    train_split: str = "train"
    test_split: str = "test"
    clip_columns: tuple[str, ...] = ()
    frame_column: str | None = None


PRESETS = {
    # The official split has 10 images a class in each of train and validation: 16 shots need both.
    "flowers102": Preset(
        "dpdl-benchmark/oxford_flowers102", "Oxford Flowers 102", None, train_split="train+validation"
    ),
    "dtd": Preset("mteb/dtd", "DTD", "96726183040de9e64a590d08eaac8de940dfcbdf"),
    "pets": Preset("mteb/OxfordPets", "Oxford-IIIT Pets", "557b480fae8d69247be74d9503b378a09425096f"),
    "aircraft": Preset(
        "mteb/FGVCAircraft", "FGVC Aircraft", "3ae0e4e94e37c610c26df758ec3255fa90d80e67", label_column="variant"
    ),
    # The frames of a clip look alike: one of each, or 16 shots may be 16 times the same picture.
    "ucf101": Preset(
        "mteb/ucf101",
        "UCF101",
        "e0618988874f6ffbf90af69fa6dccecb9be3deb3",
        clip_columns=("video_id", "clip_id"),
        frame_column="frame",
    ),
    "cifar100": Preset("mteb/cifar100", "CIFAR-100", "ac5511f885f65fb75d31a9d8810a8440913f7721", "img", "fine_label"),
    "cifar10": Preset("uoft-cs/cifar10", "CIFAR-10", None, "img"),
    # Labels of the test images were never published.
    "tiny-imagenet": Preset("zh-plus/tiny-imagenet", "Tiny ImageNet", None, test_split="valid"),
}
