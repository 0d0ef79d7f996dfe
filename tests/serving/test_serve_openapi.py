"""The server's OpenAPI description is true: schemathesis asks what it promises, and what it forbids."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attngan.serving import server
from attngan.serving.drawing_queue import DrawingQueue

pytest.importorskip("fastapi")
schemathesis = pytest.importorskip("schemathesis")
KNOWN = {"name": "birds", "version": "1"}
OPERATIONS = {
    "GET /",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "POST /generate",
    "GET /v2",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    *(
        f"{asked}{version}{end}"
        for version in ("", "/versions/{version}")
        for asked, end in (
            ("GET /v2/models/{name}", ""),
            ("GET /v2/models/{name}", "/ready"),
            ("POST /v2/models/{name}", "/infer"),
        )
    ),
}


@pytest.fixture(scope="module")
def described(bundle):
    app = server.create_app(DrawingQueue(bundle, name="birds", device="cpu", max_images=2))
    found = [result.ok() for result in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()]
    return {operation.label: operation for operation in found}


def test_every_path_is_described_and_so_is_what_it_reads(described):
    assert described.keys() == OPERATIONS
    bodies = {label for label, operation in described.items() if operation.body}
    assert bodies == {label for label in OPERATIONS if label.startswith("POST")}


def bring_to_life(case, choice):
    """Ask for what is there more often than chance would."""
    if choice and case.path_parameters:
        case.path_parameters.update({name: KNOWN[name] for name in case.path_parameters})
    if choice == 2 and isinstance(case.body, dict):
        if case.path == "/generate":
            case.body["caption"] = "a red bird"
        else:
            case.body["inputs"] = [{"name": "caption", "datatype": "BYTES", "shape": [1], "data": ["a red bird"]}]


@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_answers_are_as_described_whatever_is_asked(label, described):
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as openapi_checks

    operation = described[label]
    modes = schemathesis.GenerationMode
    cases = st.one_of(operation.as_strategy(generation_mode=mode) for mode in (modes.POSITIVE, modes.NEGATIVE))
    wanted = [
        checks.not_a_server_error,
        openapi_checks.status_code_conformance,
        openapi_checks.content_type_conformance,
        openapi_checks.response_schema_conformance,
    ]
    seen = set()

    @settings(
        max_examples=100 if operation.body else 20 if operation.path_parameters else 3,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(cases, st.integers(0, 2))
    def ask(case, choice):
        bring_to_life(case, choice)
        seen.add(case.call_and_validate(checks=wanted).status_code)

    ask()
    assert 200 in seen
    if operation.body:
        assert seen & {400, 422}
