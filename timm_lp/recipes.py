"""Recipes: YAML files with settings of a command."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from .settings import Settings, rule_of


def read_recipe(path: str | Path, kind: type[Settings], shipped: Path | None = None) -> dict[str, Any]:
    """Return the settings of a recipe file.

    Args:
        path: A YAML file with any of the settings; one of the shipped ones by its bare name too.
        kind: The dataclass of the settings.
        shipped: The folder of the recipes that come with the package.

    Raises:
        ValueError: If it cannot be read, or holds other things.
    """
    source = Path(path)
    if shipped and not source.is_file() and source.name == str(path) and (shipped / source).is_file():
        source = shipped / source
    try:
        text = source.read_text(encoding="utf-8")
        settings, written = yaml.safe_load(text), yaml.load(text, _AsWritten)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"`--config` must be a readable YAML file, got {path}: {reason}") from error
    kinds = {option.name: rule_of(option).kind for option in fields(kind)}
    if not isinstance(written, dict) or not written.keys() <= kinds.keys():
        unknown = sorted(map(str, written.keys() - kinds.keys())) if isinstance(written, dict) else written
        raise ValueError(f"`--config` must hold settings that --help lists, got {unknown} in {path}.")
    return {
        name: settings[name] if settings[name] is None or kinds[name] in (bool, dict) else written[name]
        for name in written
    }


class _AsWritten(yaml.BaseLoader):
    """Leaves each value as the text that it is, as a flag's: else `no` is False, 010 is 8, and 1:30 is 90.

    A key that stands twice is an error.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [key.value for key, _ in node.value]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise yaml.YAMLError(f"{', '.join(twice)} stands twice")
        return mapping
