"""What the server's requests and answers hold: checked where they are read, and told in its OpenAPI description."""

from typing import Annotated, Any, NotRequired, Required

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from attngan.serving.drawing_queue import MAX_CAPTION


def _limits(**limits: int) -> Any:
    """Tell limits that `DrawingQueue.draw` checks, and answers in a better sentence."""
    return Field(json_schema_extra=limits)


@with_config(ConfigDict(extra="forbid"))
class Wish(TypedDict):
    """What `/generate` is asked for."""

    caption: Annotated[str, _limits(maxLength=MAX_CAPTION)]
    num_images: NotRequired[Annotated[int, _limits(minimum=1, default=4)]]
    seed: NotRequired[Annotated[int, _limits(minimum=0, exclusiveMaximum=2**63, default=1)]]


class WordMap(TypedDict):
    """A word, and the picture (PNG in base64) lit where it is attended to."""

    word: str
    png: str


class Variant(TypedDict):
    """A picture (PNG in base64) with the words attended to most."""

    png: str
    attention: list[WordMap]


class Drawing(TypedDict):
    """What `/generate` answers."""

    caption: str
    seed: int
    bundle: str
    notes: list[str]
    images: list[Variant]


class Health(TypedDict):
    """That the server is there, and what it draws with."""

    status: str
    bundle: str


class Failure(TypedDict):
    """Why a request is refused, in a sentence."""

    error: str


class InputTensor(TypedDict, total=False):
    """An input of the Open Inference Protocol: "caption" or "seed"."""

    name: Required[str]
    shape: Required[list[int]]
    datatype: Required[str]
    data: Required[list[Any]]
    parameters: dict[str, Any] | None


class Inference(TypedDict, total=False):
    """What `infer` is asked for."""

    id: str
    inputs: Required[list[InputTensor]]
    outputs: list[dict[str, Any]] | None
    parameters: dict[str, Any] | None


class OutputTensor(TypedDict):
    """An output of the Open Inference Protocol."""

    name: str
    datatype: str
    shape: list[int]
    data: list[int]


class Inferred(TypedDict):
    """What `infer` answers."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: NotRequired[str]


class TensorKind(TypedDict):
    """A tensor that the model takes or gives."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorKind]
    outputs: list[TensorKind]


class ModelReady(TypedDict):
    """That the model can be asked."""

    name: str
    ready: bool


class ServerMetadata(TypedDict):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class Live(TypedDict):
    """That the server runs."""

    live: bool


class Ready(TypedDict):
    """That the server can be asked."""

    ready: bool


def body(shape: Any, **maxima: int) -> dict[str, Any]:
    """Return OpenAPI's description of a JSON body, for an operation that reads it itself.

    Args:
        shape: a TypedDict.
        maxima: of those of its numbers that have one which is known only here.
    """
    schema = TypeAdapter(shape).json_schema()
    inlined = _inline(schema, schema.pop("$defs", {}))
    for name, maximum in maxima.items():
        inlined["properties"][name]["maximum"] = maximum
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined}}}}


def _inline(node: Any, shapes: dict[str, Any]) -> Any:
    """Put shapes where they are referred to: within an operation a reference finds nothing."""
    if isinstance(node, dict):
        if "$ref" in node:
            return _inline(shapes[node["$ref"].rpartition("/")[2]], shapes)
        return {key: _inline(value, shapes) for key, value in node.items()}
    return [_inline(value, shapes) for value in node] if isinstance(node, list) else node


def refusals(*statuses: int | str) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of the statuses that come with a sentence."""
    return {status: {"model": Failure, "description": "Refused"} for status in statuses}


def answers(shape: Any, *statuses: int | str) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of an answer that is not checked again on its way, and of the refusals."""
    return {200: {"model": shape, "description": "OK"}, **refusals(*statuses)}
