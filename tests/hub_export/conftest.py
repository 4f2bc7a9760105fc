import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.utils import _runtime
from timm.models import save_for_hf
from torch import nn

from hub_export import stage
from timm_lp.files import write_json
from timm_lp.trials.record import as_json

from ..hub_server import HubServer, serve
from ..models.networks import NUM_CLASSES, create_trained
from ..trials.records import record as trial_record

LABELS = [f"class {i}" for i in range(NUM_CLASSES)]
REPO = "alice/network"
WEIGHTS = r"GET .*/model\.safetensors"  # the request for them


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """A small network with masks, as it could come from training on images of 64 pixels."""
    model = create_trained("lp2_resnet18")
    model.pretrained_cfg["input_size"] = (3, 64, 64)
    return model


@pytest.fixture(scope="session")
def staged_once(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage(network, tmp_path_factory.mktemp("staged") / "network", label_names=LABELS)


@pytest.fixture
def staged(staged_once: Path, tmp_path: Path) -> Path:
    """A staged folder of the test's own."""
    return Path(shutil.copytree(staged_once, tmp_path / "network"))


@pytest.fixture(scope="session")
def trial_once(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run, record = tmp_path_factory.mktemp("run"), trial_record("lp2", 1, 90.0)
    save_for_hf(network, str(run / record.folder), model_config={"label_names": LABELS}, safe_serialization=True)
    for other in (record, trial_record("lp2", 2, 91.0), trial_record("base", 1, 80.0)):
        write_json(run / other.folder / "trial.json", as_json(other))
    return run


@pytest.fixture
def trial(trial_once: Path, tmp_path: Path) -> Path:
    """A trial's folder of the test's own, in a run with another seed and the base network, which were not saved."""
    return Path(shutil.copytree(trial_once, tmp_path / "run")) / "dtd" / "resnet18" / "lp2-seed1"


@pytest.fixture
def pauses() -> list[float]:
    """Return how long was to be waited for the Hub, seconds, each time."""
    return []


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> Iterator[HubServer]:
    """An empty Hub, which this process uses as Alice, and does not wait for: over Xet, where there is `hf_xet`."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))  # of hf_xet's log
    no_wait = SimpleNamespace(sleep=pauses.append)
    for module in ("huggingface_hub.utils._http", "huggingface_hub.file_download", "hub_export.errors"):
        monkeypatch.setattr(f"{module}.time", no_wait)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve() as server:
        use(server.url, monkeypatch)
        yield server


@contextmanager
def silent_address() -> Iterator[str]:
    """Return an address at which nobody answers, and keep other processes from taking it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process's client talk to an endpoint, as HF_ENDPOINT does when it is imported."""
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)


@pytest.fixture
def without_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client be that of a machine that `hf_xet` is not installed on, which transfers over LFS."""
    monkeypatch.setitem(_runtime._package_versions, "hf_xet", "N/A")


@pytest.fixture(params=["xet", "xet_own_blobs", "lfs"])
def transfer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test over Xet, with and without the blobs that all repositories share, and over LFS."""
    if request.param == "lfs":
        request.getfixturevalue("without_xet")
    else:
        pytest.importorskip("hf_xet")
    if request.param == "xet_own_blobs":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SHARED_BLOBS", True, raising=False)
    return request.param


@pytest.fixture
def pushed(hub: HubServer, staged: Path) -> str:
    """Put a network on the Hub, and return its commit's hash; the client's cache is empty."""
    return hub.seed(staged, REPO).oid
