"""Requests checked against upstream's description of the API, where that file lies beside the checkout."""

import json
import re
from pathlib import Path
from typing import Any

SWAGGER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "kfp-api-v2beta1.swagger.json"


def description() -> dict[str, Any] | None:
    """Return upstream's description, stricter: no property that it does not name; None where it is missing."""
    if not SWAGGER.is_file():
        return None
    swagger = json.loads(SWAGGER.read_text(encoding="utf-8"))
    for definition in swagger["definitions"].values():
        if definition.get("type") == "object" and "properties" in definition:
            definition.setdefault("additionalProperties", False)
            for name, value in definition["properties"].items():
                if value.get("format") == "int64":  # protobuf's JSON takes both
                    definition["properties"][name] = {"type": ["string", "integer"]}
    return swagger


def check(request: dict[str, Any], swagger: dict[str, Any]) -> None:
    """Raise if a request has no route, an unknown query name, or a body that the description does not allow."""
    import jsonschema

    operation = _operation(request, swagger["paths"])
    parameters = operation.get("parameters", [])
    names = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
    assert set(request["query"]) <= names, f"{request['method']} {request['path']}: {set(request['query']) - names}"
    for parameter in parameters:
        if parameter["in"] == "query" and parameter["name"] in request["query"]:
            value = request["query"][parameter["name"]]
            assert value in parameter.get("enum", [value]), f"{parameter['name']}: {value}"
        if parameter["in"] == "body":
            schema = parameter["schema"] | {"definitions": swagger["definitions"]}
            jsonschema.Draft7Validator(schema).validate(request["body"])
        if parameter["in"] == "formData":
            assert request["kind"] == "multipart/form-data"


def _operation(request: dict[str, Any], paths: dict[str, Any]) -> dict[str, Any]:
    found = [
        operations[request["method"].lower()]
        for path, operations in paths.items()
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/:]+", path), request["path"])
        and request["method"].lower() in operations
    ]
    assert found, f"no route for {request['method']} {request['path']}"
    return found[0]
