"""KServe's v2 protocol (Open Inference Protocol, REST), so that a cluster serves a bundle as it is.

Input "caption" BYTES [N], and if wished "seed" INT64 [1]; output "image" UINT8 [N, H, W, 3], one picture a caption.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

import attngan
from attngan.studio import Refused, Studio, read_json

if TYPE_CHECKING:
    from fastapi import FastAPI

VERSION = "1"


def add_health(app: "FastAPI") -> None:
    """Add what says that the server is there; it listens once the model is loaded."""

    @app.get("/v2")
    def server() -> dict[str, Any]:
        return {"name": "attngan", "version": attngan.__version__, "extensions": []}

    @app.get("/v2/health/live")
    def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}


def add_model(app: "FastAPI", studio: Studio) -> None:
    """Add the paths of the one model that is served."""
    from fastapi import Request
    from starlette.concurrency import run_in_threadpool

    def check(name: str, version: str = VERSION) -> None:
        if name != studio.name or version != VERSION:
            raise Refused(404, f"model {name}, version {version}: not served here; {studio.name} {VERSION} is.")

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    def model_ready(name: str, version: str = VERSION) -> dict[str, Any]:
        check(name, version)
        return {"name": name, "ready": True}

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    def metadata(name: str, version: str = VERSION) -> dict[str, Any]:
        check(name, version)
        side = studio.model.generator.resolutions[-1]
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

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str = VERSION) -> dict[str, Any]:
        check(name, version)
        given = await read_json(request)
        captions, seed = _inputs(given, studio.max_images)
        pictures = [(await run_in_threadpool(studio.draw, caption, 1, seed)).pictures[0] for caption in captions]
        pixels = np.stack([np.asarray(picture) for picture in pictures])
        output = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
        answer = {"model_name": name, "model_version": version, "outputs": [output]}
        return {**answer, "id": given["id"]} if "id" in given else answer


def _inputs(given: dict[str, Any], max_captions: int) -> tuple[list[str], int]:
    """Return the captions and the seed of a request; `Refused` says what is not as the protocol has it."""
    tensors = given.get("inputs")
    if not isinstance(tensors, list) or not all(isinstance(each, dict) for each in tensors):
        raise Refused(400, 'expected "inputs": a list of tensors with name, shape, datatype and data.')
    by_name = {str(each.get("name")): each for each in tensors}
    if "caption" not in by_name or not by_name.keys() <= {"caption", "seed"}:
        raise Refused(400, f"expected the input caption, and if wished seed; found {', '.join(by_name) or 'none'}.")
    captions = _data(by_name["caption"], "BYTES", str)
    if not 1 <= len(captions) <= max_captions:
        raise Refused(400, f"caption: {len(captions)} texts, expected 1 to {max_captions}.")
    seeds = _data(by_name["seed"], "INT64", int) if "seed" in by_name else [1]
    if len(seeds) != 1:
        raise Refused(400, f"seed: {len(seeds)} numbers, expected one.")
    return captions, seeds[0]


def _data(tensor: dict[str, Any], datatype: str, kind: type) -> list[Any]:
    data = tensor.get("data")
    if (
        tensor.get("datatype") != datatype
        or not isinstance(data, list)
        or not all(type(each) is kind for each in data)
        or tensor.get("shape") != [len(data)]
    ):
        name = tensor.get("name")
        raise Refused(400, f"{name}: expected datatype {datatype}, a shape of one number, and as many values.")
    return data
