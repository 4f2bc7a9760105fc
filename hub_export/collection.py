"""A collection on the Hub: found by its owner and title, made once, its items in an order and with notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from huggingface_hub import Collection, HfApi

from .errors import retry
from .target import check_private

LONGEST_TITLE = 59  # letters that the Hub takes
_DESCRIPTION = "Base, large and Lp networks, trained with the same settings, and their results."


@dataclass(frozen=True)
class Entry:
    """An item that a collection is to have.

    Attributes:
        id: The repository, `owner/name`.
        type: What it holds.
        note: The note on it.
    """

    id: str
    type: Literal["model", "dataset"]
    note: str


def check_collection(api: HfApi, name: str, private: bool) -> Collection | None:
    """Return the collection of an owner and a title, None if there is none.

    Args:
        api: The client.
        name: `owner/title`.
        private: Whether a new one is to be private.

    Raises:
        ValueError: If a public one is to be private.
    """
    found = retry(partial(_find, api, name))
    if found and private:
        check_private(found.url, found.private)
    return found


def make_collection(api: HfApi, name: str, private: bool) -> Collection:
    """Return the collection of an owner and a title, made if there is none; the arguments are `check_collection`'s."""
    owner, _, title = name.partition("/")

    def find_or_make() -> Collection:  # looks again where an answer was lost
        return _find(api, name) or api.create_collection(
            title, namespace=owner, description=_DESCRIPTION, private=private, exists_ok=True
        )

    return retry(find_or_make)


def arrange(api: HfApi, slug: str, entries: Sequence[Entry]) -> None:
    """Add what a collection lacks, and correct notes and order; other items stay in it.

    Args:
        api: The client.
        slug: The collection's.
        entries: What it is to have.
    """
    items = {(item.item_type, item.item_id): item for item in retry(lambda: api.get_collection(slug)).items}
    for entry in entries:
        item = items.get((entry.type, entry.id))
        if item is None:
            add = partial(api.add_collection_item, slug, entry.id, entry.type, note=entry.note, exists_ok=True)
            retry(add)
        elif item.note != entry.note:
            retry(partial(api.update_collection_item, slug, item.item_object_id, note=entry.note))
    there = retry(lambda: api.get_collection(slug))
    if _is_in_order(there, entries):
        return
    keys = {(item.item_type, item.item_id): item.item_object_id for item in there.items}
    for position, entry in enumerate(entries):  # all of them, whether a position moves the others or not
        retry(partial(api.update_collection_item, slug, keys[entry.type, entry.id], position=position))


def states_of(collection: Collection | None, entries: Sequence[Entry]) -> dict[Entry, str]:
    """Return what `arrange` would do with each item: "new", "changed" (its note), "moved" or "same"."""
    notes = {(item.item_type, item.item_id): item.note for item in collection.items} if collection else {}
    kept = "same" if collection is None or _is_in_order(collection, entries) else "moved"
    return {
        entry: "new"
        if (entry.type, entry.id) not in notes
        else kept
        if notes[entry.type, entry.id] == entry.note
        else "changed"
        for entry in entries
    }


def _find(api: HfApi, name: str) -> Collection | None:
    owner, _, title = name.partition("/")
    slugs = (known.slug for known in api.list_collections(owner=owner) if known.title == title)
    slug = next(slugs, None)
    return None if slug is None else api.get_collection(slug)  # of a listing's items only the first are there


def _is_in_order(collection: Collection, entries: Sequence[Entry]) -> bool:
    wanted = [(entry.type, entry.id) for entry in entries]
    there = [(item.item_type, item.item_id) for item in collection.items]
    return [key for key in there if key in wanted] == [key for key in wanted if key in there]
