import hashlib
import json
from pathlib import Path

import pytest

from timm_lp.files import file_digest, write_json


def test_a_json_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("size", [0, 2**20, 2**20 + 1])
def test_a_files_digest_is_its_contents(tmp_path: Path, size: int) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"7" * size)
    assert file_digest(path) == hashlib.sha256(b"7" * size).hexdigest()
