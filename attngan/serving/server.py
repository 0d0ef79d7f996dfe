"""A web page and an HTTP API that draw sentences with a bundle (FastAPI).

What comes during a drawing waits in a short queue and is then drawn together; what does not fit in the queue is sent
away with status 503.
"""

import base64
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attngan.errors import InputError, first_line, shown
from attngan.inference.bundle import find_bundle
from attngan.pages import pictures, report
from attngan.serving import shapes
from attngan.serving.drawing_queue import MAX_CAPTION, RETRY_SECONDS, Counts, DrawingQueue, Refused, read_json
from attngan.storage import json_text

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHOWN_EXAMPLES = 8  # captions on the page
SHOWN_VOCABULARY = 500  # words on the page; they begin with the frequent ones
WISH = '{"caption": text, "num_images": whole number, "seed": whole number}'

# Everything the page needs is in it; pictures come as data.
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(queue: DrawingQueue) -> "FastAPI":
    """Return the web application of an open bundle."""
    from fastapi import FastAPI

    from attngan.serving import kserve

    app = FastAPI(title="attngan", docs_url=None, redoc_url=None)  # their pages load scripts from elsewhere
    _answer_with_care(app, queue)
    _add_pages(app, queue)
    _add_drawing(app, queue)
    kserve.add_health(app)
    kserve.add_model(app, queue)
    return app


def _answer_with_care(app: "FastAPI", queue: DrawingQueue) -> None:
    """Count every answer, let the browser load nothing else, and say errors as JSON with one sentence."""
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    app.add_middleware(Careful, counts=queue.counts)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        headers = {"Retry-After": str(RETRY_SECONDS)} if error.status == 503 else None
        return JSONResponse({"error": error.sentence}, error.status, headers=headers)

    @app.exception_handler(HTTPException)
    async def not_found(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": f"{error.detail}."}, error.status_code, headers=error.headers)


class Careful:
    """ASGI: counts every answer by route and status, and gives it the headers of `SECURITY`."""

    def __init__(self, app: "ASGIApp", counts: Counts):
        self._app, self._counts = app, counts

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def careful(message: "Message") -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"])
                added = [(name.lower().encode(), value.encode()) for name, value in SECURITY.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            await self._app(scope, receive, careful)
        except Exception:
            self._count(scope, 500)
            raise

    def _count(self, scope: "Scope", status: int) -> None:
        # The route's template, never the path itself: strangers choose that, and every label is kept.
        self._counts.requests[getattr(scope.get("route"), "path", "other"), status] += 1


def _add_pages(app: "FastAPI", queue: DrawingQueue) -> None:
    from fastapi.responses import HTMLResponse, PlainTextResponse

    words = queue.model.vocabulary.words[1:]
    page = report.render(
        "serve.html.j2",
        max_images=queue.max_images,
        max_caption=MAX_CAPTION,
        bundle=queue.model.fingerprint,
        examples=queue.examples[:SHOWN_EXAMPLES],
        words=[shown(word) for word in words[:SHOWN_VOCABULARY]],
        num_words=len(words),
    )

    @app.get("/", response_class=HTMLResponse)
    def index() -> str:
        return page

    @app.get("/healthz")
    @app.get("/readyz")
    def healthy() -> shapes.Health:
        return {"status": "ok", "bundle": queue.model.fingerprint}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        return queue.counts.text()


def _add_drawing(app: "FastAPI", queue: DrawingQueue) -> None:
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from starlette.concurrency import run_in_threadpool

    answers = shapes.answers(shapes.Drawing, 400, 408, 413, 422, 503)
    body = shapes.body(shapes.Wish, num_images=queue.max_images)

    @app.post("/generate", responses=answers, openapi_extra=body)
    async def generate(request: Request) -> JSONResponse:
        given = await read_json(request)
        try:
            wish = json_text.shaped(given, "request", shapes.Wish, expected=WISH, mend="send that")
        except InputError as error:
            raise Refused(422, str(error)) from None
        # In a thread to the last byte, so that others are answered meanwhile.
        return await run_in_threadpool(lambda: JSONResponse(_draw(queue, **wish)))


def _draw(queue: DrawingQueue, caption: str, num_images: int = 4, seed: int = 1) -> shapes.Drawing:
    drawn = queue.draw(caption, num_images, seed)
    return {
        "caption": caption,
        "seed": seed,
        "bundle": queue.model.fingerprint,
        "notes": drawn.notes,
        "images": [
            {
                "png": _base64(picture, pictures.origin(caption, seed, queue.model.fingerprint, variant=number)),
                "attention": [{"word": word, "png": _base64(overlay)} for word, overlay in overlays],
            }
            for number, (picture, overlays) in enumerate(zip(drawn.pictures, drawn.overlays, strict=True))
        ],
    }


def serve(bundle: Path, *, host: str, port: int, name: str, device: str, max_images: int) -> None:
    """Serve a bundle until SIGTERM or Ctrl-C.

    Args:
        bundle: folder of `export_samples`, or one that holds it as `bundle`.
        host: address to listen at.
        port: 0 takes a free one.
        name: of the model, in KServe's protocol.
        device: "auto", "cpu", "cuda".
        max_images: pictures of one request.

    Raises:
        InputError: the packages are not installed, the bundle is none, no address is given, or the port is taken.
    """
    if not host.strip():  # the system takes it for every address
        raise InputError(
            "--host: expected an address to listen at, found an empty one; give 127.0.0.1 for this machine alone, or "
            "0.0.0.0 for all."
        )
    try:
        import fastapi  # noqa: F401

        from attngan.serving import connections
    except ImportError as error:
        raise InputError(f'serve needs {error.name}; install attngan with its extra "serve".') from None
    from attngan.config.settings import Config
    from attngan.runtime.acceleration import set_up_device

    device = str(set_up_device(Config(device=device)))
    app = create_app(DrawingQueue(find_bundle(bundle), name=name, device=device, max_images=max_images))
    # Bound here: where the port is taken uvicorn would end with a log line and status 1.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(connections.QUEUE)  # so that the line below is true
        except (OSError, UnicodeError) as error:  # the latter of what can be no host's name
            found = getattr(error, "strerror", None) or first_line(error)
            raise InputError(
                f"{shown(host)}:{port}: cannot listen there ({found}); give another --host or --port."
            ) from None
        where = f"[{host}]" if family == socket.AF_INET6 else host
        print(f"serving {bundle} at http://{where}:{listening.getsockname()[1]}", flush=True)
        with suppress(KeyboardInterrupt):  # uvicorn has answered what was asked, and raises the signal again
            connections.run(app, listening)


def _base64(picture: Any, about: dict[str, str | int] | None = None) -> str:
    return base64.b64encode(pictures.to_png(picture, about)).decode()
