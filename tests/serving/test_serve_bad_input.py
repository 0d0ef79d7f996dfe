"""Whatever JSON strangers send, the server answers in a sentence: nothing of it is a fault of the server."""

import json

import pytest

from attngan.serving import server
from attngan.serving.drawing_queue import DrawingQueue

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
CAPTION = {"name": "caption", "datatype": "BYTES", "shape": [1], "data": ["a red bird"]}
SEED = {"name": "seed", "datatype": "INT64", "shape": [1], "data": [1]}
INFER = "/v2/models/birds/infer"
NESTED = "[" * 300 + "]" * 300
HALF = "\\ud800"  # of a surrogate pair, as JSON writes it
DIGITS = "9" * 5000
GOOD = {"/generate": '"caption": "a red bird", "num_images": 1', INFER: f'"inputs": [{json.dumps(CAPTION)}]'}


@pytest.fixture(scope="module")
def client(bundle):
    from fastapi.testclient import TestClient

    app = server.create_app(DrawingQueue(bundle, name="birds", device="cpu", max_images=5))
    return TestClient(app, raise_server_exceptions=False)


def refused(response, *statuses):
    """Check that a response is one of the statuses, with one sentence; return it."""
    assert response.status_code in statuses, response.text[:300]
    answer = json.loads(response.content.decode("utf-8"))
    assert answer.keys() == {"error"} and len(answer["error"]) < 600 and len(answer["error"].splitlines()) == 1
    return answer["error"]


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize(
    "member",
    [
        f'"caption": "a red bird {HALF}"',
        f'"{HALF}": 1',
        f'"id": "{HALF}"',
        f'"id": {NESTED}',
        f'"id": {DIGITS}',
        f'"seed": {DIGITS}',
        f'"num_images": {DIGITS}',
        '"seed": NaN',
        '"seed": Infinity',
        '"seed": 1e999',
        f'"parameters": {{"a": "{HALF}"}}',
        f'"parameters": {{"a": {NESTED}}}',
        f'"outputs": [{{"name": "{HALF}"}}]',
    ],
)
def test_text_and_numbers_that_cannot_be_are_refused_wherever_they_stand(member, path, client):
    assert refused(client.post(path, content="{" + GOOD[path] + "," + member + "}"), 400).startswith("request: ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe{\x00}\x00",
        b'{"caption": "\xed\xa0\x80"}',
        b'{"caption": "\x00"}',
        b"{" + b'"a":{' * 10_000 + b"}" * 10_001,
        DIGITS.encode(),
    ],
)
@pytest.mark.parametrize("path", GOOD)
def test_bytes_that_are_no_sound_json_are_refused(content, path, client):
    refused(client.post(path, content=content), 400)


@pytest.mark.parametrize(
    ("tensor", "more"),
    [
        ({**CAPTION, "name": 3}, {}),
        ({**CAPTION, "name": ["caption"]}, {}),
        ({**CAPTION, "name": "c" * 10_000}, {}),
        ({**CAPTION, "name": "two\nlines"}, {}),
        ({**CAPTION, "datatype": {"a": 1}}, {}),
        ({**CAPTION, "shape": [True]}, {}),
        ({**CAPTION, "shape": {"0": 1}}, {}),
        ({**CAPTION, "data": "a red bird"}, {}),
        ({**CAPTION, "data": [["a red bird"]]}, {}),
        ({**CAPTION, "parameters": 3}, {}),
        (CAPTION, {"id": 42}),
        (CAPTION, {"id": None}),
        (CAPTION, {"id": ["42"]}),
        (CAPTION, {"parameters": []}),
        (CAPTION, {"outputs": [3]}),
    ],
)
def test_a_request_that_is_not_as_the_protocol_has_it_is_refused(tensor, more, client):
    refused(client.post(INFER, json={"inputs": [tensor], **more}), 400)


@pytest.mark.parametrize("inputs", [[CAPTION, CAPTION], [CAPTION, SEED, {**SEED, "data": [2]}]])
def test_a_tensor_that_is_given_twice_is_refused(inputs, client):
    assert "expected each name once" in refused(client.post(INFER, json={"inputs": inputs}), 400)


def test_an_id_is_any_text_and_comes_back(client):
    for text in ("", "42", "\u00e9\U0001f426\0\r\nx: y", "i" * 10_000):
        assert client.post(INFER, json={"id": text, "inputs": [CAPTION]}).json()["id"] == text
    # As clients write them that leave nothing out, and one that begins with a mark of its encoding.
    content = json.dumps({"inputs": [CAPTION], "parameters": None, "outputs": None})
    answer = client.post(INFER, content=content.encode("utf-8-sig"))
    assert answer.status_code == 200 and "id" not in answer.json()


@pytest.mark.parametrize(
    "text", ["\0 a red bird", "a red bird \u2028\r\n", "a red \U0001f426 bird \u202e", "\ufffd\ufffdbird"]
)
def test_any_other_text_is_drawn_and_comes_back(text, client):
    answer = client.post("/generate", json={"caption": text, "num_images": 1})
    assert answer.status_code == 200 and answer.json()["caption"] == text


def test_thousands_of_members_and_huge_numbers_are_refused(client):
    many = {str(number): 0 for number in range(7000)}
    refused(client.post("/generate", json={"caption": "a red bird", **many}), 422)
    refused(client.post("/generate", json={"caption": "a red bird", "two\nlines": 0}), 422)
    for name in ("num_images", "seed"):
        for number in (10**399, -(10**398), 1.5, True, "1", None):
            refused(client.post("/generate", json={"caption": "a red bird", name: number}), 422)


def test_counts_grow_by_no_text_of_strangers(client):
    for number in range(50):
        client.get(f"/v2/models/{number}")
        client.get(f"/{number}?{number}")
        client.post(f"/v2/models/{number}/versions/{number}/infer", json={})
        client.request(f"X{number}", "/healthz")
    refused(client.get("/v2/models/" + "n" * 5000 + "%ED%A0%80%0A"), 404)
    lines = client.get("/metrics").text.splitlines()
    assert len(lines) < 40 and all(line.isprintable() for line in lines)


def test_another_method_is_refused_with_those_that_are_allowed(client):
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "BREW"):
        response = client.request(method, "/generate")
        assert refused(response, 405) == "Method Not Allowed." and response.headers["Allow"] == "POST"


def test_a_fault_of_the_server_is_counted_and_keeps_its_traceback(bundle, monkeypatch):
    from fastapi.testclient import TestClient

    queue = DrawingQueue(bundle, name="birds", device="cpu", max_images=5)
    monkeypatch.setattr(queue, "draw", lambda *_: 1 / 0)
    client = TestClient(server.create_app(queue))
    with pytest.raises(ZeroDivisionError):
        client.post("/generate", json={"caption": "a red bird"})
    assert queue.counts.requests["/generate", 500] == 1
