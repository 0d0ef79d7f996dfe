"""The container image of this commit: every step runs in it, not as root, on a root that cannot be written.

Needs a Docker engine and the image (`make image`).
"""

import json
import subprocess

import container_image
import pytest
from container_image import IMAGE

from attngan.storage import artifacts

RESTRICTED = ["--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--user", "10001:0"]


@pytest.fixture(scope="module", autouse=True)
def engine():
    container_image.require()


pytestmark = pytest.mark.docker


def in_container(folder, *command):
    mounted = [*RESTRICTED, "--volume", f"{folder}:/data"]
    return subprocess.run(["docker", "run", "--rm", *mounted, IMAGE, *command], capture_output=True, text=True)


def test_the_six_steps_run_in_the_image(tmp_path):
    tmp_path.chmod(0o777)
    steps = [
        "draw-birds --out /data/birds --count 112 --seed 3",
        "preprocess --source /data/birds --out /data/dataset --config smoke",
        "pretrain-damsm --dataset /data/dataset --out /data/damsm --config smoke",
        "train-generator --dataset /data/dataset --damsm /data/damsm --out /data/generator --config smoke",
        "evaluate --dataset /data/dataset --damsm /data/damsm --generator /data/generator --out /data/metrics "
        "--config smoke",
        "export-samples --generator /data/generator --dataset /data/dataset --metrics /data/metrics "
        "--gallery /data/gallery --bundle /data/bundle --config smoke",
        "publish --bundle /data/bundle --metrics /data/metrics --model-uri /data/models",
    ]
    for step in steps:
        result = in_container(tmp_path, "attngan", *step.split())
        assert result.returncode == 0, f"{step}: {result.stderr}"
    assert artifacts.check(tmp_path / "bundle", "bundle", contents=True)["revision"] == IMAGE.split(":")[1]


def test_a_mistake_ends_with_one_sentence_and_status_2(tmp_path):
    result = in_container(tmp_path, "attngan", "preprocess", "--source", "/data/absent", "--out", "/tmp/out")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)


def test_the_executor_of_kfp_and_torch_with_cuda_are_in_it(tmp_path):
    code = (
        "import json, os, sys, torch, google.cloud.storage; from kfp.dsl import executor_main; "
        "print(json.dumps([os.getuid(), torch.version.cuda, sys.flags.no_user_site]))"
    )
    result = in_container(tmp_path, "env", "_KFP_RUNTIME=true", "python3", "-c", code)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)[:2] == [10001, "12.8"]


def test_a_login_shell_finds_the_command(tmp_path):
    assert in_container(tmp_path, "bash", "-lc", "attngan --help").returncode == 0


def test_a_user_that_the_image_does_not_know_can_run_it(tmp_path):
    restricted = [*RESTRICTED[:-1], "4242:4242"]
    command = ["docker", "run", "--rm", *restricted, IMAGE, "python3", "-c", "import attngan.steps.evaluate"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
