"""From flags to the pipeline's arguments."""

import inspect

import pytest

pytest.importorskip("kfp")

from attngan.errors import InputError
from attngan.training import train_job
from components.cluster import arguments, commands
from components.cluster.options import Work, grouped

BARE = {"source": "gs://birds/cub", "model_uri": "gs://birds/models", "pipeline_root": "gs://birds/runs"}
BARE |= {"image": "registry.test/attngan:1a2b3c"}


def made(**flags):
    return arguments.pipeline_arguments(Work(**BARE | flags))


def test_every_argument_is_a_parameter_of_the_pipeline():
    import pipeline

    parameters = set(pipeline.attngan_pipeline.pipeline_spec.root.input_definitions.parameters)
    assert set(made()) <= parameters


def test_training_state_outlives_the_run_below_the_pipeline_root():
    assert made(pipeline_root="gs://birds/runs/")["checkpoint_root"] == "gs://birds/runs/state"
    for given in ("gs://birds/mine", "gs://birds/mine/"):
        assert made(checkpoint_root=given)["checkpoint_root"] == "gs://birds/mine"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"source": "gs://birds"}, "--model-uri gs://birds/models: lies inside --source gs://birds, and every"),
        ({"source": "gs://birds/runs"}, "--pipeline-root gs://birds/runs: is --source gs://birds/runs, and every"),
        ({"captions": "gs://birds/runs"}, "--pipeline-root gs://birds/runs: is --captions gs://birds/runs"),
        ({"checkpoint_root": "gs://birds/cub/x/"}, "--checkpoint-root gs://birds/cub/x: lies inside --source"),
        ({"inception_weights": "gs://birds/models"}, "--model-uri gs://birds/models: is --inception-weights"),
    ],
)
def test_results_are_not_written_into_what_is_trained_on(flags, said):
    """Each run would change the source by what it leaves, and the next one would find something new."""
    with pytest.raises(InputError, match=said):
        made(**flags)
    with pytest.raises(InputError, match=said):
        arguments.sweep_arguments(Work(**BARE | flags), ["seed=0,1"], is_agreed=False)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluate.inception_fid.uri=/home/me/w.pth", r"evaluate\.inception_fid\.uri /home/me/w\.pth: expected gs://"),
        ("publish.metric=kid", "publish.metric kid: expected a figure that evaluations have of a model"),
    ],
)
def test_settings_that_would_fail_in_the_last_steps_are_refused_before_the_run(setting, said):
    with pytest.raises(InputError, match=said):
        made(set_=[setting])
    with pytest.raises(InputError, match=said):
        arguments.sweep_arguments(Work(**BARE, set_=[setting]), ["seed=0,1"], is_agreed=False)


def test_a_source_may_lie_in_the_folder_of_all_runs():
    """What runs leave there lies beside it."""
    assert made(source="gs://birds/runs/cub", pipeline_root="gs://birds/runs")["source"] == "gs://birds/runs/cub"


def test_settings_travel_as_yaml_text():
    assert "epochs: 7" in made(set_=["damsm.epochs=7"])["config"]


@pytest.mark.parametrize(("gpus", "for_evaluation"), [(0, 0), (1, 1), (8, 1)])
def test_evaluation_takes_one_gpu_at_most(gpus, for_evaluation):
    values = made(gpus=gpus)
    assert (values["num_gpus"], values["evaluation_gpus"]) == (str(gpus), str(for_evaluation))


def test_several_nodes_train_in_a_job_and_the_pods_of_the_steps_only_wait():
    values = made(nodes=3, gpus=4, cpu="16", node_selector=["gpu=l4"], toleration=["spot"], node_service_account="bird")
    job = train_job.load(values["train_job"])
    assert (job.nodes, job.gpus, job.cpu, job.image) == (3, 4, "16", BARE["image"])
    assert (job.node_selector, job.tolerations[0].key, job.service_account) == ({"gpu": "l4"}, "spot", "bird")
    assert (values["num_gpus"], values["node_selector"], values["tolerations"]) == ("0", {}, [])
    assert (values["evaluation_gpus"], values["evaluation_node_selector"]) == ("1", {"gpu": "l4"})
    assert made()["train_job"] == ""


def test_selectors_and_tolerations_become_what_kubernetes_knows():
    values = made(
        node_selector=["cloud.google.com/gke-accelerator=nvidia-l4", "spot="],
        toleration=["nvidia.com/gpu=present:NoSchedule", "spot:NoExecute", "anything"],
    )
    assert values["node_selector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4", "spot": ""}
    assert values["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists", "effect": "NoExecute"},
        {"key": "anything", "operator": "Exists"},
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"image": "registry.test/attngan:latest"}, "expected a digest"),
        ({"source": "birds.tgz"}, "--source birds.tgz: expected gs://"),
        ({"source": "/mnt/birds"}, "--source /mnt/birds: expected gs://"),
        ({"source": "gs://"}, "gs://: expected gs://BUCKET/NAME, found no bucket"),
        ({"model_uri": "s3://Pictures!/m"}, "--model-uri s3://Pictures!/m: 'Pictures!' cannot be a bucket's name"),
        ({"model_uri": "ftp://pictures/m"}, "ftp://pictures/m: expected a local path, gs://BUCKET/NAME"),
        ({"source": "s3://pictures/../birds"}, "found . or .. between slashes"),
        ({"captions": "text/"}, "--captions text/"),
        ({"inception_weights": "w.pth"}, "--inception-weights w.pth"),
        ({"checkpoint_root": "/state"}, "--checkpoint-root /state"),
        ({"pipeline_root": "runs"}, "--pipeline-root runs: expected gs:// or s3:// or minio:// and a bucket"),
        ({"pipeline_root": "s3://pictures/runs?region=x"}, "put them into the ConfigMap kfp-launcher"),
        ({"cpu": "many"}, "--cpu many"),
        ({"memory": "32 GB"}, "--memory 32 GB"),
        ({"node_selector": ["gpu"]}, "--node-selector gpu: expected KEY=VALUE"),
        ({"toleration": ["gpu:Never"]}, "--toleration gpu:Never: expected KEY[=VALUE][:EFFECT]"),
        ({"toleration": ["gpu:"]}, "--toleration gpu:"),
        ({"toleration": ["=x"]}, "--toleration =x"),
        ({"set_": ["damsm.epoch=7"]}, "damsm.epochs"),
    ],
)
def test_what_the_pods_cannot_use_is_refused(flags, said):
    with pytest.raises(InputError) as refused:
        made(**flags)
    assert said in str(refused.value)


def test_results_state_and_data_may_lie_in_several_storages():
    flags = {"pipeline_root": "minio://pictures/runs/", "source": "s3://birds/a b#1.tgz"}
    assert made(**flags)["checkpoint_root"] == "minio://pictures/runs/state"
    assert made(**flags, checkpoint_root="gs://birds/state")["checkpoint_root"] == "gs://birds/state"
    assert arguments.pipeline_root(Work(**BARE | flags)) == "minio://pictures/runs"
    assert made(**flags)["source"] == "s3://birds/a b#1.tgz"


def test_submit_and_schedule_show_the_same_flags_for_the_same_work():
    signatures = [inspect.signature(command).parameters for command in (commands.submit, commands.schedule)]
    shared = {"host", "token", "source", "set_", "gpus", "toleration", "service_account"}
    assert all(shared <= set(signature) for signature in signatures)


def test_a_grouped_command_gets_its_groups():
    got = []

    @grouped
    def command(name: str, work: Work) -> None:
        got.append((name, work))

    flags = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
    command(**flags | BARE | {"name": "x", "gpus": 3})
    assert got == [("x", Work(**BARE, gpus=3))]
