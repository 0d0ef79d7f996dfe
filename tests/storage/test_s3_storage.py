"""What only stores that speak S3 do: endpoints, credentials, stores that do not compare, and Kubeflow's launcher."""

import base64
import json
import os
import random
import urllib.parse

import kubernetes_api
import local_server
import pytest
from typer.testing import CliRunner

from attngan import cli
from attngan.errors import Changed, InputError, TransientError
from attngan.runtime import kubernetes_access
from attngan.storage import cloud, kfp_launcher, places

pytest.importorskip("boto3")

import boto3

from attngan.storage import s3_storage

ODD = [
    "a b",
    "100%",
    "%41",
    "#1",
    "who?",
    "a+b",
    "Käuzchen",
    "🦉",
    "a'b",
    'a"b',
    "a&b=c",
    "a;b",
    "a\\b",
    "a,b",
    "~a",
    "*",
]


def error(code: str, status: int = 400):
    """Return an answer as S3 refuses with it."""
    text = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    return lambda method, path, number: (status, text.encode())


@pytest.mark.parametrize("name", ODD)
def test_names_with_odd_characters_are_those_of_the_store(cloud_bucket, tmp_path, name):
    if "\\" in name and "ATTNGAN_TEST_S3" in os.environ:
        pytest.skip("SeaweedFS takes a backslash for a slash")
    (tmp_path / name).write_bytes(b"x")
    uri = f"{cloud_bucket.uri}/{name}"
    places.copy([(tmp_path / name, name)], uri)
    assert places.names(uri) == [name] and cloud_bucket.names() == {f"{name}/{name}"}
    assert places.read(f"{uri}/{name}")[0] == b"x"
    assert (places.fetch(uri, tmp_path / "back") / name).read_bytes() == b"x"
    places.write(f"{uri}/pointer", b"1", generation=0)
    assert places.modified(f"{uri}/pointer") > 0
    places.remove(f"{uri}/{name}")
    assert places.names(uri) == ["pointer"]


def test_minio_is_a_name_for_the_same_store(s3_bucket, monkeypatch):
    s3_bucket.put("one/a.txt", b"a")
    assert places.names("minio://pictures/one") == ["a.txt"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with pytest.raises(InputError, match="where this store is was not said; set AWS_ENDPOINT_URL"):
        places.names("minio://pictures/one")


def test_an_output_is_not_its_input_under_another_name(s3_bucket, tmp_path):
    flags = ["--source", "s3://pictures/one", "--out", "minio://pictures/one"]
    result = CliRunner().invoke(cli.app, ["preprocess", *flags])
    assert result.exit_code == 2 and "minio://pictures/one: is the input s3://pictures/one" in result.output


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error("InvalidAccessKeyId", 403), "no valid credentials .*set AWS_ACCESS_KEY_ID"),
        (error("SignatureDoesNotMatch", 403), "no valid credentials"),
        (error("ExpiredToken"), "no valid credentials"),
        (error("AccessDenied", 403), "this account may not do that .*grant it access"),
        (error("NoSuchBucket", 404), "not found .*check the bucket's name, or make it"),
        (error("SlowDown", 503), "cloud storage does not answer"),
        (error("InvalidRequest"), "cloud storage refused it"),
    ],
)
def test_what_a_store_refuses_is_a_sentence(s3_bucket, monkeypatch, answer, said):
    from botocore.retries import standard

    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda self, context: 0.001)
    s3_bucket.proxy.choose_fault = answer
    for call in (places.names, lambda uri: places.write(uri, b"1", generation=0), places.remove):
        with pytest.raises(InputError, match=f"s3://pictures/one: {said}") as caught:
            call("s3://pictures/one")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no valid credentials"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "no valid credentials"),
        ({"AWS_PROFILE": "nobody"}, "no valid credentials .*nobody"),
        ({"AWS_ENDPOINT_URL": "store:9000"}, "correct AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://me:hidden@127.0.0.1:9"}, "cloud storage does not answer"),
    ],
)
def test_what_the_environment_lacks_is_a_sentence(s3_bucket, tmp_path, monkeypatch, settings, said):
    monkeypatch.setattr(s3_storage, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name, value in settings.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    for cached in (s3_storage._client, s3_storage._session):
        cached.cache_clear()
    with pytest.raises(InputError, match=said) as caught:
        places.names("s3://pictures/one")
    assert "hidden" not in str(caught.value)
    for cached in (s3_storage._client, s3_storage._session):
        cached.cache_clear()


@pytest.mark.skipif("ATTNGAN_TEST_S3" in os.environ, reason="a real store sees that a header of the request is gone")
def test_a_store_that_writes_without_comparing_is_refused(s3_bucket):
    s3_bucket.proxy.drop = ("If-Match", "If-None-Match")
    with pytest.raises(InputError, match="writes without comparing"):
        places.write("s3://pictures/runs/latest.json", b"1", generation=0)
    assert s3_bucket.names() == set()
    s3_bucket.proxy.drop = ()
    places.write("s3://pictures/runs/latest.json", b"1", generation=0)
    assert s3_bucket.names() == {"runs/latest.json"}


def test_of_two_that_write_at_once_the_one_that_has_to_wait_asks_again(s3_bucket, monkeypatch):
    monkeypatch.setattr(s3_storage, "LONGEST_WAIT", 0.0)
    first = places.write("s3://pictures/latest.json", b"1", generation=0)
    conflicts = []

    def conflict(method, path, number):
        if method != "PUT" or len(conflicts) == 2:
            return None
        conflicts.append(path)
        return error("ConditionalRequestConflict", 409)(method, path, number)

    s3_bucket.proxy.choose_fault = conflict
    second = places.write("s3://pictures/latest.json", b"2", generation=first)
    assert len(conflicts) == 2 and places.read("s3://pictures/latest.json") == (b"2", second)
    with pytest.raises(Changed):
        places.write("s3://pictures/latest.json", b"3", generation=first)
    places.remove("s3://pictures/latest.json")
    with pytest.raises(Changed):
        places.write("s3://pictures/latest.json", b"3", generation=second)


def test_what_others_stored_is_compared_with_its_md5(s3_bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # as an older client stores it
    boto3.client("s3").put_object(Bucket="pictures", Key="a.bin", Body=b"what was stored")
    s3_bucket.proxy.choose_fault = lambda method, path, number: "damaged" if path == "/pictures/a.bin" else None
    with pytest.raises(InputError, match=r"what arrived is not what was sent \(checksum\)"):
        places.fetch("s3://pictures/a.bin", tmp_path)


def test_a_large_file_comes_back_from_the_parts_it_was_sent_in(s3_bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(cloud, "CHUNK_BYTES", 5 * 2**20)  # the smallest part that S3 takes
    content = random.Random(4).randbytes(11 * 2**20)
    (tmp_path / "large.bin").write_bytes(content)
    places.copy([(tmp_path / "large.bin", "large.bin")], "s3://pictures/one")
    assert sum("partNumber" in path for _, path in s3_bucket.proxy.requests) == 3
    assert (places.fetch("s3://pictures/one", tmp_path / "back") / "large.bin").read_bytes() == content
    s3_bucket.damage("one/large.bin", content[:-1] + b"x")
    with pytest.raises(InputError, match="what arrived is not what was sent"):
        places.fetch("s3://pictures/one", tmp_path / "again")


def test_a_missing_package_is_a_sentence(monkeypatch):
    import sys

    import attngan.storage

    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "attngan.storage.s3_storage")
    monkeypatch.delattr(attngan.storage, "s3_storage")
    with pytest.raises(InputError, match="install the s3 extra"):
        places.names("s3://pictures/one")


@pytest.fixture
def pod(monkeypatch, tmp_path):
    """Be in a pod of Kubeflow Pipelines; gives the API of Kubernetes there."""
    pytest.importorskip("kubernetes")
    with local_server.running(kubernetes_api.Api()) as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.setattr(kubernetes_access, "NAMESPACE_FILE", tmp_path / "none")
        monkeypatch.setenv("KFP_POD_NAME", f"pod-{random.random()}")  # what is cached for another one is not read
        yield server


def secret(**data: str) -> dict[str, str]:
    return {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}


def test_in_a_pod_minio_is_the_store_that_kfp_brings_along(pod):
    pod.objects["secrets/mlpipeline-minio-artifact"] = secret(accesskey="minio", secretkey="minio123")
    found = kfp_launcher.store("minio", "mlpipeline", "v2/artifacts")
    assert found == kfp_launcher.Store("http://seaweedfs.kubeflow:9000", "minio", "minio", "minio123")
    assert "minio123" not in repr(found) and kfp_launcher.store("s3", "mlpipeline", "v2") is None


def test_in_a_pod_the_launcher_says_where_a_bucket_and_a_prefix_are(pod):
    pod.objects["configmaps/kfp-launcher"] = {
        "providers": """
s3:
  default:
    endpoint: s3.eu-central-1.amazonaws.com
    region: eu-central-1
    credentials: {fromEnv: true}
  overrides:
    - bucketName: birds
      keyPrefix: owls/
      endpoint: store.example:9000
      disableSSL: true
      credentials:
        secretRef: {secretName: mine, accessKeyKey: id, secretKeyKey: key}
"""
    }
    pod.objects["secrets/mine"] = secret(id="me", key="hidden")
    assert kfp_launcher.store("s3", "birds", "owls/one") == kfp_launcher.Store(
        "http://store.example:9000", "eu-central-1", "me", "hidden"
    )
    elsewhere = kfp_launcher.Store("https://s3.eu-central-1.amazonaws.com", "eu-central-1")
    assert kfp_launcher.store("s3", "birds", "owlsandmore") == kfp_launcher.store("s3", "cars", "") == elsewhere


@pytest.mark.parametrize(
    "text", ["s3: here", "s3: {default: []}", "s3: {default: {credentials: {secretRef: {}}}}", "[]"]
)
def test_in_a_pod_settings_that_the_launcher_would_not_read_are_a_sentence(pod, text):
    pod.objects["configmaps/kfp-launcher"] = {"providers": text}
    with pytest.raises(InputError, match="the ConfigMap kfp-launcher, providers: expected"):
        kfp_launcher.store("s3", "birds", "owls")


@pytest.mark.parametrize(
    ("prefix", "name", "is_chosen"),
    [
        ("some/path/a", "some/path/a", True),
        ("some/path/a", "some/path/a/child", True),
        ("some/path/a/", "some/path/a", True),
        ("/some/path/a/", "some/path/a/child", True),
        ("some/path/allowed", "some/path/allowed-other", False),
        ("some/path/a", "some/path", False),
        ("", "any/path", True),
        ("/", "any/path", True),
    ],
)
def test_in_a_pod_a_prefix_counts_in_whole_parts_as_for_the_launcher(pod, prefix, name, is_chosen):
    """As `prefixMatchesOverride` of KFP 2.17 has it."""
    override = {"bucketName": "birds", "keyPrefix": prefix, "endpoint": "http://theirs:1"}
    default = {"endpoint": "http://ours:1", "credentials": {"fromEnv": True}}
    settings = {"s3": {"default": default, "overrides": [override]}}
    pod.objects["configmaps/kfp-launcher"] = {"providers": json.dumps(settings)}
    expected = "http://theirs:1" if is_chosen else "http://ours:1"
    assert kfp_launcher.store("s3", "birds", name).endpoint == expected


@pytest.mark.parametrize(
    ("endpoint", "said", "host"),
    [
        ("http://store.example:9000", None, "store.example:9000"),
        ("http://store.example:9000", True, "store.example:9000"),
        ("http://store.example:9000", False, "birds.store.example:9000"),
        ("https://s3.eu-central-1.amazonaws.com", None, "s3.eu-central-1.amazonaws.com"),
        ("https://s3.eu-central-1.amazonaws.com", False, "birds.s3.eu-central-1.amazonaws.com"),
    ],
)
def test_in_a_pod_the_launcher_says_whether_a_bucket_is_a_part_of_the_path(pod, endpoint, said, host):
    """Unsaid, it is, as KFP 2.17 has it (v2/config/s3.go)."""
    default = {"endpoint": endpoint, "region": "eu-central-1", "forcePathStyle": said, "credentials": {"fromEnv": True}}
    pod.objects["configmaps/kfp-launcher"] = {"providers": json.dumps({"s3": {"default": default}})}
    client = s3_storage._client(kfp_launcher.store("s3", "birds", "owls"), None)
    url = client.generate_presigned_url("get_object", Params={"Bucket": "birds", "Key": "owls"})
    assert urllib.parse.urlsplit(url).netloc == host


def test_in_a_pod_a_secret_that_is_not_there_is_a_sentence(pod):
    with pytest.raises(InputError, match="the Secret mlpipeline-minio-artifact: expected accesskey and secretkey"):
        kfp_launcher.store("minio", "mlpipeline", "v2/artifacts")


def test_in_a_pod_a_secret_that_may_not_be_read_names_the_permission(pod):
    pod.refusals["GET", "secrets/mlpipeline-minio-artifact"] = (403, "secrets is forbidden")
    with pytest.raises(TransientError, match="may not read it; grant it get on secrets"):
        kfp_launcher.store("minio", "mlpipeline", "v2/artifacts")


def test_in_a_pod_a_fault_of_the_api_is_not_taken_for_settings_that_may_not_be_read(pod):
    pod.refusals["GET", "configmaps/kfp-launcher"] = (500, "etcd is away")
    with pytest.raises(TransientError, match=r"the Kubernetes API does not answer \(500\)"):
        kfp_launcher.store("minio", "mlpipeline", "v2/artifacts")


def test_in_a_pod_whose_account_may_not_read_the_settings_the_environment_decides(pod):
    pod.refusals["GET", "configmaps/kfp-launcher"] = (403, "configmaps is forbidden")
    assert kfp_launcher.store("minio", "mlpipeline", "v2/artifacts") is None


def test_a_step_in_a_pod_reads_and_writes_in_the_launchers_store(pod, s3_bucket, s3_store, monkeypatch):
    endpoint = s3_bucket.proxy.url.removeprefix("http://")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    pod.objects["configmaps/kfp-launcher"] = {
        "providers": f"""
minio:
  default:
    endpoint: {endpoint}
    disableSSL: true
    region: minio
    credentials:
      secretRef: {{secretName: mine, accessKeyKey: id, secretKeyKey: key}}
"""
    }
    pod.objects["secrets/mine"] = secret(id=s3_store.key, key=s3_store.secret)
    places.write("minio://pictures/one", b"1", generation=0)
    assert s3_bucket.names() == {"one"} and places.read("minio://pictures/one")[0] == b"1"
