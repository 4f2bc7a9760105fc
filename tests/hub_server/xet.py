"""The loopback Hub's Xet storage: a folder that `hf_xet`, the client's and the server's own, reads and writes."""

import time
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

try:
    import hf_xet
except ImportError:  # which has no wheel for every machine
    hf_xet = None

_RECORD = 48  # bytes of each record of a shard
_VERIFIED, _WITH_SHA256 = 1 << 31, 1 << 30  # flags of a file's records in a shard


class XetStorage:
    """Files by their Xet hash.

    Attributes:
        folder: Where they are; `local://` and this path is what the client is told.
    """

    def __init__(self) -> None:
        self._temporary = TemporaryDirectory(ignore_cleanup_errors=True)  # the session may still write its log
        self.folder = Path(self._temporary.name)
        self._hashes: dict[str, str] = {}

    def close(self) -> None:
        """Remove the files."""
        self._temporary.cleanup()

    @property
    def token(self) -> dict[str, Any]:
        """What the client needs to get in."""
        return {"casUrl": f"local://{self.folder}", "accessToken": "xet", "exp": int(time.time()) + 3600}

    def add(self, content: bytes) -> str:
        """Store a file if it is not there, and return its Xet hash."""
        digest = sha256(content).hexdigest()
        if digest not in self._hashes:
            with self._session.new_upload_commit(**self._access) as commit:
                upload = commit.start_upload_bytes(content, sha256=hf_xet.COMPUTE_SHA256)
            self._hashes[digest] = upload.result().xet_info.hash
        return self._hashes[digest]

    def find(self, digest: str, size: int) -> bytes | None:
        """Return the file that has a sha256, which a client has uploaded."""
        for shard in self.folder.glob("xet/xorbs/shards/*.mdb"):
            self._hashes.update(_read_hashes(shard.read_bytes()))
        if digest not in self._hashes:
            return None
        path = self.folder / digest
        with self._session.new_file_download_group(**self._access) as group:
            group.start_download_file(hf_xet.XetFileInfo(self._hashes[digest], size), str(path))
        return path.read_bytes()

    @cached_property
    def _session(self) -> Any:
        return hf_xet.XetSession()

    @property
    def _access(self) -> dict[str, Any]:
        token = self.token
        return {"endpoint": token["casUrl"], "token": token["accessToken"], "token_expiry_unix_secs": token["exp"]}


def _read_hashes(shard: bytes) -> dict[str, str]:
    """Return the Xet hashes of a shard's files by sha256, from its first section.

    A file's header (hash, flags, number of segments) is followed by a record for each segment, perhaps one more for
    each that verifies it, and one with the sha256. A hash of ones ends the section.
    """
    hashes, start = {}, _RECORD
    while (hash_ := shard[start : start + 32]) != b"\xff" * 32:
        flags, segments = (int.from_bytes(shard[start + at : start + at + 4], "little") for at in (32, 36))
        start += _RECORD * (1 + segments * (2 if flags & _VERIFIED else 1))
        if flags & _WITH_SHA256:
            hashes[_hex(shard[start : start + 32])] = _hex(hash_)
            start += _RECORD
    return hashes


def _hex(hash_: bytes) -> str:
    """Return a hash as text, which is that of four little-endian numbers."""
    return "".join(hash_[at : at + 8][::-1].hex() for at in range(0, 32, 8))
