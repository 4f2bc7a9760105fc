"""Push a run to the Hub: its networks one after the other, then their collection and the results."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import Collection

from .cards.benchmark import benchmark_section
from .collection import arrange, check_collection, make_collection, states_of
from .download import hub_api, read_published
from .errors import HubError, VerificationError, clear_errors
from .results import preview_results, push_results, stage_results
from .run import Run, find_run
from .staging import stage
from .upload import preview, push

_logger = logging.getLogger(__name__)

_LISTED = 3  # networks in a message


@dataclass(frozen=True)
class PublishedRun:
    """A run on the Hub.

    Attributes:
        networks: Commits of the networks by their repositories, in the order of the table.
        results: The data set repository with the report and the records.
        results_commit: Its commit.
        collection: The collection's slug.
        url: The collection's address.
    """

    networks: dict[str, str]
    results: str
    results_commit: str
    collection: str
    url: str


@dataclass(frozen=True)
class RunPreview:
    """What a push would do.

    Attributes:
        files: As `upload.preview` returns them, by repository; the results' stand last.
        items: State ("new", "changed", "moved" or "same") and note of each item of the collection, by repository.
    """

    files: dict[str, dict[str, tuple[int, str]]]
    items: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class StagedRun:
    """A run as it is published: every network in a folder of its own.

    Attributes:
        run: What is published.
        folders: The networks' staged folders, by repository.
        work: Where the results are written.
        license: Of the results, None where nobody states one.
    """

    run: Run
    folders: dict[str, Path]
    work: Path
    license: str | None

    def preview(self, *, private: bool = False, token: str | None = None) -> RunPreview:
        """Verify everything, check it against the Hub, and return what `push` would do.

        The manifest of the results names commits, so that it counts as changed if any network does.

        Args:
            private: As `push_run` takes it.
            token: Likewise.

        Raises:
            HubError: If the Hub does not answer.
            ValueError: If the report is not that of the run's trials, or what is public is to be private.
            VerificationError: If a network is not what was staged.
        """
        api, name = hub_api(token), self.run.name
        files = {
            repo_id: preview(folder, repo_id, private=private, token=token) for repo_id, folder in self.folders.items()
        }
        with clear_errors(api.endpoint, name, None):
            commits = {
                repo_id: read_published(api, repo_id, None).commit
                for repo_id, states in files.items()
                if all(state == "same" for _, state in states.values())
            }
            collection = check_collection(api, name, private)
        staged = self._results("previewed", commits, collection)
        files[self.run.results] = preview_results(api, self.run.results, staged, private)
        states = states_of(collection, self.run.entries)
        return RunPreview(files, {entry.id: (states[entry], entry.note) for entry in self.run.entries})

    def push(self, *, private: bool = False, token: str | None = None) -> PublishedRun:
        """Publish the networks one after the other, then the results, and arrange the collection.

        Args:
            private: As `push_run` takes it.
            token: Likewise.

        Raises:
            HubError: If the Hub, or the way to it, fails; the message says what is there then.
            KeyboardInterrupt: If the user interrupts, with such a message.
            VerificationError: If what comes back is not what was staged, with such a message.
        """
        api, run, there = hub_api(token), self.run, _There(len(self.folders))
        with there.told():
            for repo_id, folder in self.folders.items():
                there.commits[repo_id] = push(folder, repo_id, private=private, token=token).oid
            with clear_errors(api.endpoint, f"Collection {run.name}", None):
                collection = make_collection(api, run.name, private)
            there.others.append(collection.url)
            files = self._results("results", there.commits, collection)
            commit = push_results(api, run.results, files, private)
            there.others.append(run.results)
            with clear_errors(api.endpoint, f"Collection {collection.slug}", None):
                arrange(api, collection.slug, run.entries)
        _logger.info("Published %d networks, %s, and their collection.", len(self.folders), run.results)
        return PublishedRun(there.commits, run.results, commit, collection.slug, collection.url)

    def _results(self, name: str, commits: dict[str, str], collection: Collection | None) -> dict[str, Path]:
        return stage_results(self.work / name, self.run, self.license, commits, collection)


@contextmanager
def staged_run(run: Run, license: str | None = None, base_model: str | None = None) -> Iterator[StagedRun]:
    """Stage the networks of a run for a while.

    Args:
        run: What `find_run` found.
        license: As `stage` takes it, for each network and for the results.
        base_model: As `stage` takes it, for each network.
    """
    section = benchmark_section(run.records, run.repositories, run.results)
    with tempfile.TemporaryDirectory() as work:
        folders = {
            member.repo_id: stage(
                member.folder,
                Path(work) / "networks" / member.repo_id,
                license=license,
                base_model=base_model,
                benchmark=section,
            )
            for member in run.members
        }
        yield StagedRun(run, folders, Path(work), license)


def push_run(
    run: str | Path,
    repo_id: str,
    *,
    seed: int | None = None,
    private: bool = False,
    license: str | None = None,
    base_model: str | None = None,
    token: str | None = None,
) -> PublishedRun:
    """Publish the networks of a run, their collection, and its results; everything is staged and verified before.

    What is on the Hub already and the same is left as it is, so that the same call goes on after a failure. Items that
    others added to the collection stay in it.

    Args:
        run: The run's folder, with its report.
        repo_id: `owner/name`. The networks' repositories are `owner/name-<variant>-seed<seed>`, with the data set and
            the network before the variant where there are several; the results' is `owner/name-results`, and the
            collection's title is the name.
        seed: Publish the networks of this seed alone, as `owner/name-<variant>`; None for all.
        private: Whether new repositories and a new collection are private.
        license: As `stage` takes it, for each network and for the results.
        base_model: As `stage` takes it, for each network.
        token: None for the one in HF_TOKEN or from `hf auth login`.

    Raises:
        HubError: If the Hub, or the way to it, fails; the message says what is there then.
        KeyboardInterrupt: If the user interrupts, with such a message.
        ValueError: If the folder holds no run whose trials ended well and saved their networks, its report is not that
            of its trials, or names are not as they must be.
        VerificationError: If something is not what was staged.
    """
    with staged_run(find_run(run, repo_id, seed), license, base_model) as staged:
        staged.preview(private=private, token=token)
        return staged.push(private=private, token=token)


@dataclass
class _There:
    """What is on the Hub so far.

    Attributes:
        count: How many networks are to be there.
        commits: Of those that are, by repository.
        others: What else is there.
    """

    count: int
    commits: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        names, also = [*self.commits], "".join(f", and {other}" for other in self.others)
        listed = f" ({', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''})" if names else ""
        networks = f"Of {self.count} networks {len(names)} are on the Hub, verified{listed}"
        return f"{networks}{also}; the same command goes on from here."

    @contextmanager
    def told(self) -> Iterator[None]:
        """Let what breaks a push off say what is there."""
        try:
            yield
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(str(self)) from error
        except VerificationError as error:
            raise VerificationError(f"{error} {self}") from error
        except (HubError, OSError, ValueError) as error:
            raise HubError(f"{error} {self}") from error
