"""setuptools' build backend, which makes the README's links absolute: they then hold where PyPI shows it.

`Repository` in `[project.urls]` of `pyproject.toml` is where they lead.
"""

import logging
import re
from typing import Any

from setuptools import Distribution
from setuptools.build_meta import *  # noqa: F403 # what a build backend must offer
from setuptools.command.egg_info import manifest_maker

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")

_parse_config_files, _add_defaults = Distribution.parse_config_files, manifest_maker.add_defaults


def with_absolute_links(markdown: str, repository: str) -> str:
    """Return a page with its links to files of the repository, and its pictures, as the repository's addresses."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1] else "blob"
        return f"{link[1]}[{link[2]}]({repository.rstrip('/')}/{kind}/HEAD/{link[3]})"

    return _LINK.sub(absolute, markdown)


def _read_project(self: Distribution, *arguments: Any, **options: Any) -> None:
    _parse_config_files(self, *arguments, **options)
    repository = (self.metadata.project_urls or {}).get("Repository")
    if repository is None:
        logging.warning(
            "pyproject.toml has no Repository in [project.urls]: the README's links hold in a clone only."
        )
    else:
        self.metadata.long_description = with_absolute_links(self.metadata.long_description, repository)


def _add_this_file(self: manifest_maker) -> None:
    _add_defaults(self)
    self.filelist.append(".ci/build_backend.py")


Distribution.parse_config_files = _read_project
manifest_maker.add_defaults = _add_this_file
