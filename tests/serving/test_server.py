"""The server: the same pictures as `generate`, limits, errors in a sentence, KServe's v2 protocol."""

import base64
import io
import json
import shutil
import signal
import socket
import threading

import numpy as np
import pytest
from forked import Command
from PIL import Image

from attngan.errors import InputError
from attngan.inference import text_to_image
from attngan.inference.generate import generate
from attngan.serving import drawing_queue, server
from attngan.serving.drawing_queue import DrawingQueue
from attngan.storage import artifacts

pytest.importorskip("fastapi")
pytest.importorskip("httpx")


@pytest.fixture(scope="module")
def queue(bundle):
    return DrawingQueue(bundle, name="birds", device="cpu", max_images=5)


@pytest.fixture(scope="module")
def client(queue):
    from fastapi.testclient import TestClient

    return TestClient(server.create_app(queue))


def picture(png):
    return Image.open(io.BytesIO(base64.b64decode(png)))


def test_the_pictures_are_those_of_generate_and_say_what_drew_them(client, bundle, tmp_path):
    answer = client.post("/generate", json={"caption": "a red bird", "num_images": 3, "seed": 5}).json()
    files = generate(bundle, "a red bird", tmp_path, num_images=3, seed=5)[:3]
    for given, path in zip(answer["images"], files, strict=True):
        drawn = picture(given["png"])
        with Image.open(path) as expected:
            assert np.abs(np.asarray(drawn, int) - np.asarray(expected, int)).max() <= 1
        assert drawn.text["caption"] == "a red bird" and drawn.text["seed"] == "5"
        assert [each["word"] for each in given["attention"]] == ["red", "bird"]
        assert picture(given["attention"][0]["png"]).size == (256, 256)
    assert answer["bundle"] == artifacts.check(bundle, "bundle")["fingerprint"] and answer["notes"] == []


@pytest.mark.parametrize("host", ["", " "])
def test_an_address_that_is_none_is_not_taken_for_every_address(host, bundle, monkeypatch):
    monkeypatch.setattr(server.socket.socket, "bind", lambda *_: pytest.fail("it listens"))
    with pytest.raises(InputError, match="--host: expected an address to listen at, found an empty one"):
        server.serve(bundle, host=host, port=0, name="birds", device="cpu", max_images=5)


@pytest.mark.parametrize("host", ["a..b", "192.0.2.1", "no such host"])
def test_an_address_that_is_not_this_machines_is_a_sentence(host, bundle):
    with pytest.raises(InputError, match=rf"{host}:0: cannot listen there \(.+\); give another --host or --port\."):
        server.serve(bundle, host=host, port=0, name="birds", device="cpu", max_images=5)


def test_unknown_words_are_named(client):
    answer = client.post("/generate", json={"caption": "a yelow bird", "num_images": 1}).json()
    assert answer["notes"] == ["the model does not know 'yelow'; the nearest word it knows is 'yellow'"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"hello", 400, "request: expected JSON, found something else"),
        (b"[1]", 400, "expected a JSON object"),
        (b"[" * 60_000, 400, "expected JSON"),
        (b"{}", 422, 'expected {"caption": text'),
        (b'{"caption": 3}', 422, 'expected {"caption": text'),
        (b'{"caption": "bird", "size": 3}', 422, 'expected {"caption": text'),
        (b'{"caption": "bird", "seeds": 3}', 422, "found something else ('seeds' is not known; did you mean 'seed'?)"),
        (b'{"capton": "bird"}', 422, "'capton' is not known; did you mean 'caption'?"),
        (b'{"caption": "bird", "q": 3}', 422, "found something else ('q' is not known); send that."),
        (b'{"caption": "bird", "num_images": true}', 422, 'expected {"caption": text'),
        (b'{"caption": "bird", "num_images": 6}', 422, "num_images: 6, expected 1 to 5."),
        (b'{"caption": "bird", "seed": -1}', 422, "seed: -1, expected a number from 0."),
        (b'{"caption": "xyzzy"}', 422, "none of its words is among the"),
        (json.dumps({"caption": "bird " * 300}).encode(), 422, "1,500 characters, at most 1,000"),
        (b'{"caption": "' + b"x" * 70_000 + b'"}', 413, "longer than 65,536 bytes"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(body, status, sentence, client):
    response = client.post("/generate", content=body)
    assert response.status_code == status and sentence in response.json()["error"]


def test_a_body_without_a_length_is_cut_off_too(client):
    def endless():
        for _ in range(200):
            yield b"x" * 1000

    assert client.post("/generate", content=endless()).status_code == 413


def test_the_queue_is_bounded(client, queue, monkeypatch):
    monkeypatch.setattr(queue, "_queue", threading.BoundedSemaphore(1))
    started, go_on = threading.Event(), threading.Event()
    draw = drawing_queue.draw

    def slow(*args, **kwargs):
        started.set()
        assert go_on.wait(60)
        return draw(*args, **kwargs)

    monkeypatch.setattr(drawing_queue, "draw", slow)
    first = []
    thread = threading.Thread(target=lambda: first.append(client.post("/generate", json={"caption": "bird"})))
    thread.start()
    assert started.wait(60)
    second = client.post("/generate", json={"caption": "bird"})
    go_on.set()
    thread.join()
    assert second.status_code == 503 and second.headers["Retry-After"] == "5" and "waiting" in second.json()["error"]
    assert first[0].status_code == 200 and queue.counts.waiting == 0


class Held:
    """Stands for `drawing_queue.draw`: the first call waits until it is let go; what each call drew is kept."""

    def __init__(self, monkeypatch):
        self.draw, self.calls = drawing_queue.draw, []
        self.started, self.go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(drawing_queue, "draw", self)

    def __call__(self, model, wanted):
        self.calls.append([(picture.caption, picture.number) for picture in wanted])
        if len(self.calls) == 1:
            self.started.set()
            assert self.go_on.wait(60)
        if "a broken bird" in [picture.caption for picture in wanted]:
            raise ZeroDivisionError
        return self.draw(model, wanted)


def drawn_while_one_draws(queue, held, asked):
    """Ask for drawings of (caption, count, seed) while a first one is held; return what each got, or its error."""
    got = {}

    def ask(number, wish):
        try:
            got[number] = queue.draw(*wish)
        except Exception as error:
            got[number] = error

    threads = [threading.Thread(target=ask, args=each) for each in enumerate([("a bird", 1, 1), *asked])]
    for number, thread in enumerate(threads):
        thread.start()
        assert held.started.wait(60)
        while len(queue._waiting) <= number:
            assert thread.is_alive()
    held.go_on.set()
    for thread in threads:
        thread.join(60)
    assert queue.counts.waiting == 0 and queue._waiting == []
    return [got[number] for number in range(1, len(threads))]


def test_what_waits_is_drawn_together_and_each_picture_as_if_alone(queue, monkeypatch):
    asked = [
        ("a red bird", 1, 5),
        ("this is a small blue bird with white wings and a red tail", 2, 6),
        ("a bird", 3, 7),
    ]
    alone = [queue.draw(*wish) for wish in asked]
    counts = queue.counts.pictures, queue.counts.drawings
    held = Held(monkeypatch)
    together = drawn_while_one_draws(queue, held, asked)
    assert held.calls[1:] == [[(caption, number) for caption, count, _ in asked for number in range(count)]]
    assert (queue.counts.pictures, queue.counts.drawings) == (counts[0] + 7, counts[1] + 4)
    for drawn, expected in zip(together, alone, strict=True):
        for picture, other in zip(drawn.pictures, expected.pictures, strict=True):
            assert np.abs(np.asarray(picture, int) - np.asarray(other, int)).max() <= 1
        assert [[word for word, _ in each] for each in drawn.overlays] == [
            [word for word, _ in each] for each in expected.overlays
        ]


def test_pictures_that_are_too_many_for_one_pass_are_drawn_in_the_order_in_which_they_were_asked_for(
    queue, monkeypatch
):
    monkeypatch.setattr(text_to_image, "BATCH_SIZE", 4)
    held = Held(monkeypatch)
    drawn = drawn_while_one_draws(queue, held, [("a red bird", 3, 5), ("a blue bird", 3, 5)])
    assert [len(each.pictures) for each in drawn] == [3, 3]
    assert held.calls[1:] == [
        [*(("a red bird", number) for number in range(3)), ("a blue bird", 0)],
        [("a blue bird", 1), ("a blue bird", 2)],
    ]


def test_an_error_in_one_request_fails_no_other(queue, monkeypatch):
    held = Held(monkeypatch)
    asked = [("a red bird", 1, 5), ("a broken bird", 2, 5), ("a blue bird", 2, 5)]
    first, broken, last = drawn_while_one_draws(queue, held, asked)
    assert isinstance(broken, ZeroDivisionError)
    assert [len(first.pictures), len(last.pictures)] == [1, 2]


def test_large_pictures_are_drawn_one_by_one_on_a_cpu_where_it_gains_nothing(queue, monkeypatch):
    assert queue.model.batch_size == 16
    for side, count in ((64, 16), (128, 4), (256, 1), (1024, 1)):
        monkeypatch.setattr(queue.model.generator, "resolutions", [side])
        assert queue.model.batch_size == count


def test_health_and_metrics(client):
    assert client.get("/healthz").json()["status"] == client.get("/readyz").json()["status"] == "ok"
    before = client.get("/metrics").text
    client.post("/generate", json={"caption": "a bird", "num_images": 2})
    client.get("/nothing/here")
    after = client.get("/metrics").text

    def value(text, name):
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)

    assert value(after, "attngan_pictures_total") == value(before, "attngan_pictures_total") + 2
    answered = 'attngan_requests_total{path="/generate",status="200"}'
    assert value(after, answered) == value(before, answered) + 1
    assert "/nothing" not in after and value(after, 'attngan_requests_total{path="other",status="404"}') >= 1
    assert value(after, "attngan_drawing_seconds_sum") > value(before, "attngan_drawing_seconds_sum")


def test_the_page_needs_nothing_from_elsewhere(client):
    response = client.get("/")
    assert "http://" not in response.text and "https://" not in response.text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/docs").status_code == 404


def with_examples(bundle, folder, examples, words=None):
    """Return a copy of a bundle with other captions to try, or none, and other words."""
    shutil.copytree(bundle, folder)
    manifest = artifacts.read_manifest(folder)
    artifacts.write_json(folder / "provenance.json", {} if examples is None else {"examples": examples})
    if words is not None:
        known = json.loads((folder / "vocabulary.json").read_text())
        artifacts.write_json(folder / "vocabulary.json", [*known[: -len(words)], *words])
    artifacts.finish(folder, "bundle", list(manifest["files"]), generator=manifest["generator"])
    return folder


def page_of(folder):
    from fastapi.testclient import TestClient

    app = server.create_app(DrawingQueue(folder, name="birds", device="cpu", max_images=5))
    return TestClient(app).get("/").text


def test_the_page_shows_the_models_own_captions_and_words_as_text(bundle, tmp_path):
    odd = '<script>"&'
    text = page_of(
        with_examples(bundle, tmp_path / "b", [f"a {odd} bird", "a red bird", "x" * 1001], words=[odd, "w" * 500])
    )
    escaped = "&lt;script&gt;&#34;&amp;"
    assert f'placeholder="a {escaped} bird"' in text and f'<button type="button">a {escaped} bird</button>' in text
    assert odd not in text and text.count(escaped) == 3 and '<button type="button">a red bird</button>' in text
    assert "x" * 1001 not in text and "w" * 500 not in text and "(500 characters)" in text


@pytest.mark.parametrize("examples", [None, [], "a red bird", [3]])
def test_a_bundle_without_captions_has_a_page_with_words_to_begin_with(examples, bundle, tmp_path):
    folder = with_examples(bundle, tmp_path / "b", examples)
    first = ", ".join(json.loads((folder / "vocabulary.json").read_text())[1:7])
    text = page_of(folder)
    assert f'placeholder="words such as {first}"' in text and 'id="examples"' not in text


def test_of_many_words_the_page_shows_the_first_ones(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "SHOWN_VOCABULARY", 3)
    words = json.loads((bundle / "vocabulary.json").read_text())[1:]
    text = page_of(bundle)
    assert (
        f"Words that the model knows: 3 of {len(words)}" in text
        and f'<p class="small">{" ".join(words[:3])}</p>' in text
    )


def tensor(name, datatype, data):
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}


def test_kserves_protocol(client, queue, bundle, tmp_path):
    assert client.get("/v2").json().keys() >= {"name", "version", "extensions"}
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/birds/versions/1/ready").json() == {"name": "birds", "ready": True}
    metadata = client.get("/v2/models/birds").json()
    assert metadata["inputs"][0] == {"name": "caption", "datatype": "BYTES", "shape": [-1]}
    assert metadata["outputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]
    inputs = [tensor("caption", "BYTES", ["a red bird", "a blue bird"]), tensor("seed", "INT64", [5])]
    answer = client.post("/v2/models/birds/infer", json={"id": "42", "inputs": inputs}).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "birds", "1")
    (output,) = answer["outputs"]
    pixels = np.array(output["data"], np.uint8).reshape(output["shape"])
    with Image.open(generate(bundle, "a red bird", tmp_path, num_images=1, seed=5)[0]) as expected:
        assert np.abs(pixels[0].astype(int) - np.asarray(expected, int)).max() <= 1
    assert pixels.shape == (2, 32, 32, 3)


def test_the_captions_of_a_request_in_kserves_protocol_are_drawn_in_one_pass(client, queue, monkeypatch):
    held = Held(monkeypatch)
    held.go_on.set()
    before = queue.counts.drawings
    inputs = [tensor("caption", "BYTES", ["a red bird", "this is a blue bird with white wings", "a red bird"])]
    (output,) = client.post("/v2/models/birds/infer", json={"inputs": inputs}).json()["outputs"]
    assert len(held.calls) == 1 and queue.counts.drawings == before + 3
    first, _, last = np.array(output["data"]).reshape(output["shape"])
    assert np.abs(first - last).max() <= 1


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/v2/models/other/infer", {"inputs": []}, 404, "not served here; birds 1 is"),
        ("/v2/models/birds/versions/9/infer", {"inputs": []}, 404, "not served here"),
        ("/v2/models/birds/infer", {}, 400, 'expected "inputs"'),
        ("/v2/models/birds/infer", {"inputs": [3]}, 400, 'expected "inputs"'),
        ("/v2/models/birds/infer", {"inputs": []}, 400, "expected the input caption"),
        ("/v2/models/birds/infer", {"inputs": [tensor("caption", "BYTES", [])]}, 400, "expected 1 to 5"),
        ("/v2/models/birds/infer", {"inputs": [tensor("caption", "FP32", [1.0])]}, 400, "expected datatype BYTES"),
        (
            "/v2/models/birds/infer",
            {"inputs": [tensor("caption", "BYTES", ["bird"]), tensor("seed", "INT64", [1, 2])]},
            400,
            "expected one",
        ),
        ("/v2/models/birds/infer", {"inputs": [tensor("caption", "BYTES", ["xyzzy"])]}, 422, "none of its words"),
    ],
)
def test_kserves_protocol_says_what_is_wrong(path, body, status, sentence, client):
    response = client.post(path, json=body)
    assert response.status_code == status and sentence in response.json()["error"]


def test_the_command_serves_until_it_is_told_to_stop(bundle, tmp_path):
    import httpx

    process = Command(["serve", str(bundle), "--port", "0"], tmp_path / "said")
    said = process.wait_for_line("", seconds=60)
    address = said.split()[-1]
    assert address.startswith("http://127.0.0.1:"), said
    assert httpx.get(address + "/healthz", timeout=60).json()["status"] == "ok"
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0 and process.said == said


def test_a_taken_port_and_a_missing_bundle_are_said(bundle, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = Command(["serve", str(bundle), "--port", port], tmp_path / "said")
        assert ended.wait() == 2 and f"127.0.0.1:{port}: cannot listen there" in ended.said
        assert "Traceback" not in ended.said
    ended = Command(["serve", str(tmp_path / "nowhere")], tmp_path / "said again")
    assert ended.wait() == 2 and "no such folder" in ended.said
