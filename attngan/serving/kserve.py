"""KServe's v2 protocol (Open Inference Protocol, REST), so that a cluster serves a bundle as it is.

Input "caption" BYTES [N], and if wished "seed" INT64 [1]; output "image" UINT8 [N, H, W, 3], one picture a caption.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

import attngan
from attngan.errors import InputError
from attngan.serving import shapes
from attngan.serving.drawing_queue import SHOWN, DrawingQueue, Refused, read_json
from attngan.storage import json_text

if TYPE_CHECKING:
    from fastapi import FastAPI

VERSION = "1"
INFERENCE = '"inputs": a list of tensors with name, shape, datatype and data (and "id": text)'


def add_health(app: "FastAPI") -> None:
    """Add what says that the server is there; it listens once the model is loaded."""

    @app.get("/v2")
    def server() -> shapes.ServerMetadata:
        return {"name": "attngan", "version": attngan.__version__, "extensions": []}

    @app.get("/v2/health/live")
    def live() -> shapes.Live:
        return {"live": True}

    @app.get("/v2/health/ready")
    def ready() -> shapes.Ready:
        return {"ready": True}


def add_model(app: "FastAPI", queue: DrawingQueue) -> None:
    """Add the paths of the one model that is served."""
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from starlette.concurrency import run_in_threadpool

    def check(name: str, version: str = VERSION) -> None:
        if name != queue.name or version != VERSION:
            asked = f"model {name[:SHOWN]}, version {version[:SHOWN]}"
            raise Refused(404, f"{asked}: not served here; {queue.name} {VERSION} is.")

    # "4XX" keeps FastAPI from adding a 422 of its own, which no text in a path leads to.
    unknown = shapes.refusals(404, "4XX")

    @app.get("/v2/models/{name}/ready", responses=unknown)
    @app.get("/v2/models/{name}/versions/{version}/ready", responses=unknown)
    def model_ready(name: str, version: str = VERSION) -> shapes.ModelReady:
        check(name, version)
        return {"name": name, "ready": True}

    @app.get("/v2/models/{name}", responses=unknown)
    @app.get("/v2/models/{name}/versions/{version}", responses=unknown)
    def metadata(name: str, version: str = VERSION) -> shapes.ModelMetadata:
        check(name, version)
        side = queue.model.generator.resolutions[-1]
        return {
            "name": name,
            "versions": [VERSION],
            "platform": "attngan",
            "inputs": [
                {"name": "caption", "datatype": "BYTES", "shape": [-1]},
                {"name": "seed", "datatype": "INT64", "shape": [1]},
            ],
            "outputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, side, side, 3]}],
        }

    described = {
        "responses": shapes.answers(shapes.Inferred, 400, 404, 408, 413, 422, 503),
        "openapi_extra": shapes.body(shapes.Inference),
    }

    @app.post("/v2/models/{name}/infer", **described)
    @app.post("/v2/models/{name}/versions/{version}/infer", **described)
    async def infer(request: Request, name: str, version: str = VERSION) -> JSONResponse:
        check(name, version)
        given = await read_json(request)
        # In a thread to the last byte, so that others are answered meanwhile.
        return await run_in_threadpool(lambda: JSONResponse(_infer(queue, given)))


def _infer(queue: DrawingQueue, given: dict[str, Any]) -> shapes.Inferred:
    try:
        asked = json_text.shaped(given, "request", shapes.Inference, expected=INFERENCE, mend="send that")
    except InputError as error:
        raise Refused(400, str(error)) from None
    captions, seed = _inputs(asked["inputs"], queue.max_images)
    pixels = np.stack([np.asarray(picture) for picture in queue.draw_each(captions, seed)])
    output = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    answer = {"model_name": queue.name, "model_version": VERSION, "outputs": [output]}
    return {**answer, "id": asked["id"]} if "id" in asked else answer


def _inputs(tensors: list[shapes.InputTensor], max_captions: int) -> tuple[list[str], int]:
    """Return the captions and the seed of a request; `Refused` says what is not as the protocol has it."""
    by_name = {each["name"]: each for each in tensors}
    if len(by_name) < len(tensors):
        raise Refused(400, f"inputs: {len(tensors)} tensors with {len(by_name)} names, expected each name once.")
    if "caption" not in by_name or not by_name.keys() <= {"caption", "seed"}:
        found = ", ".join(by_name)[:SHOWN] or "none"
        raise Refused(400, f"expected the input caption, and if wished seed; found {found}.")
    captions = _data(by_name["caption"], "BYTES", str)
    if not 1 <= len(captions) <= max_captions:
        raise Refused(400, f"caption: {len(captions)} texts, expected 1 to {max_captions}.")
    seeds = _data(by_name["seed"], "INT64", int) if "seed" in by_name else [1]
    if len(seeds) != 1:
        raise Refused(400, f"seed: {len(seeds)} numbers, expected one.")
    return captions, seeds[0]


def _data(tensor: shapes.InputTensor, datatype: str, kind: type) -> list[Any]:
    data = tensor["data"]
    if tensor["datatype"] != datatype or not all(type(each) is kind for each in data) or tensor["shape"] != [len(data)]:
        name = tensor["name"]
        raise Refused(400, f"{name}: expected datatype {datatype}, a shape of one number, and as many values.")
    return data
