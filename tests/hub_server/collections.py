"""The loopback Hub's collections: repositories in an order, with notes."""

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .answers import Answer, Refusal, Request, find_repository, page

if TYPE_CHECKING:
    from .server import HubServer

_LONGEST = {"title": 59, "description": 150, "note": 500}  # letters
_LISTED = 4  # items of each collection in a listing


@dataclass
class Item:
    """A repository in a collection, by its kind ("model" or "dataset") and id."""

    id: str
    type: str
    note: str | None
    key: str = field(default_factory=lambda: secrets.token_hex(12))


@dataclass
class Collection:
    """A collection; its slug begins with its owner's name."""

    slug: str
    title: str
    owner: str
    private: bool
    description: str | None
    items: list[Item] = field(default_factory=list)
    updated: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def row(self) -> dict[str, Any]:
        """Return what the Hub says of it."""
        rows = [
            {"_id": item.key, "id": item.id, "type": item.type, "position": position}
            | ({} if item.note is None else {"note": {"html": item.note, "text": item.note}})
            for position, item in enumerate(self.items)
        ]
        return {
            "slug": self.slug,
            "title": self.title,
            "description": self.description,
            "owner": {"name": self.owner, "type": "user"},
            "items": rows,
            "lastUpdated": self.updated.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "position": 0,
            "private": self.private,
            "theme": "orange",
            "upvotes": 0,
        }


def collections(server: "HubServer", request: Request, user: str | None) -> Answer:
    if request.method == "POST":
        return _create(server, request, user)
    owners = request.query.get("owner")
    visible = [known for known in server.collections.values() if not known.private or known.owner == user]
    rows = [known.row() for known in visible if owners is None or known.owner in owners]
    for row in rows:
        row["items"] = row["items"][:_LISTED]
        del row["position"]
    return page(server, request, rows)


def collection(server: "HubServer", request: Request, user: str | None, slug: str) -> Answer:
    found = _find(server, request, user, slug)
    if request.method == "DELETE":
        del server.collections[slug]
        return Answer(204)
    if request.method == "PATCH":
        for name in ("title", "description", "private"):
            setattr(found, name, _checked(request).get(name, getattr(found, name)))
        return Answer.of_json({"success": True, "data": found.row()})
    return Answer.of_json(found.row())


def add_item(server: "HubServer", request: Request, user: str | None, slug: str) -> Answer:
    found, options = _find(server, request, user, slug), _checked(request)
    id, kind = options["item"]["id"], options["item"]["type"]
    find_repository(server, {"kind": f"{kind}s", "repo": id}, user)
    if any((item.id, item.type) == (id, kind) for item in found.items):
        raise Refusal(409, f"{id} is in the collection already")
    found.items.append(Item(id, kind, options.get("note")))
    return Answer.of_json(found.row())


def item(server: "HubServer", request: Request, user: str | None, slug: str, key: str) -> Answer:
    found = _find(server, request, user, slug)
    place = next((place for place, known in enumerate(found.items) if known.key == key), None)
    if place is None:
        raise Refusal(404, "no such item")
    moved = found.items.pop(place)
    if request.method == "PATCH":
        options = _checked(request)
        moved.note = options.get("note", moved.note)
        found.items.insert(options.get("position", place), moved)
    return Answer.of_json({"success": True})


def _create(server: "HubServer", request: Request, user: str | None) -> Answer:
    options = _checked(request)
    title, owner = options["title"], options["namespace"]
    if user is None:
        raise Refusal(401, "Invalid username or password.")
    if owner != user:
        raise Refusal(403, f'You don\'t have the rights to create a collection under the namespace "{owner}"')
    for known in server.collections.values():
        if (known.owner, known.title) == (owner, title):
            return Answer.of_json({"error": "You already have a collection of this title", "slug": known.slug}, 409)
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    slug = f"{owner}/{name}-{secrets.token_hex(12)}"
    made = Collection(slug, title, owner, bool(options.get("private")), options.get("description"))
    server.collections[slug] = made
    return Answer.of_json(made.row())


def _find(server: "HubServer", request: Request, user: str | None, slug: str) -> Collection:
    found = server.collections.get(slug)
    if found is None or (found.private and found.owner != user):
        raise Refusal(404, "Collection not found")
    if request.method != "GET" and found.owner != user:
        raise Refusal(403 if user else 401, f"You don't have the rights to change {slug}")
    return found


def _checked(request: Request) -> dict[str, Any]:
    """Return what the client sends, if no text is too long."""
    for name, longest in _LONGEST.items():
        if len(request.json.get(name) or "") > longest:
            raise Refusal(400, f'"{name}" length must be less than or equal to {longest} characters long')
    return request.json
