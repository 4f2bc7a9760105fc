"""How a data set is read, where it does not say so itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadOptions:
    """What a user says of a data set; None where its preset, or the data set itself, says it.

    Attributes:
        dataset_config: Configuration on the Hub.
        dataset_revision: Commit, branch or tag on the Hub.
        image_column: Column of the images.
        label_column: Column of the classes.
        train_split: Split to draw from, or several joined by +.
        test_split: Split to test on.
    """

    dataset_config: str | None = None
    dataset_revision: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    train_split: str | None = None
    test_split: str | None = None
