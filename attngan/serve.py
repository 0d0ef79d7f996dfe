"""A web page and an HTTP API that draw sentences with a bundle (FastAPI).

One drawing runs at a time, the next ones wait in a short queue; what does not fit in it is sent away with status 503.
"""

import base64
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attngan import pictures, report
from attngan.bundle import find_bundle
from attngan.errors import InputError
from attngan.studio import MAX_CAPTION, RETRY_SECONDS, Refused, Studio, read_json

if TYPE_CHECKING:
    from fastapi import FastAPI, Response

# Everything the page needs is in it; pictures come as data.
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(studio: Studio) -> "FastAPI":
    """Return the web application of an open bundle."""
    from fastapi import FastAPI

    from attngan import serve_v2

    app = FastAPI(title="attngan", docs_url=None, redoc_url=None)  # their pages load scripts from elsewhere
    _answer_with_care(app, studio)
    _add_pages(app, studio)
    _add_drawing(app, studio)
    serve_v2.add_health(app)
    serve_v2.add_model(app, studio)
    return app


def _answer_with_care(app: "FastAPI", studio: Studio) -> None:
    """Count every answer, let the browser load nothing else, and say errors as JSON with one sentence."""
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    @app.middleware("http")
    async def counted(request: Request, call_next: Callable[[Request], Awaitable["Response"]]) -> "Response":
        response = await call_next(request)
        path = getattr(request.scope.get("route"), "path", "other")
        studio.counts.requests[path, response.status_code] += 1
        response.headers.update(SECURITY)
        return response

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        headers = {"Retry-After": str(RETRY_SECONDS)} if error.status == 503 else None
        return JSONResponse({"error": error.sentence}, error.status, headers=headers)

    @app.exception_handler(HTTPException)
    async def not_found(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": f"{error.detail}."}, error.status_code)


def _add_pages(app: "FastAPI", studio: Studio) -> None:
    from fastapi.responses import HTMLResponse, PlainTextResponse

    page = report.render(
        "serve.html.j2", max_images=studio.max_images, max_caption=MAX_CAPTION, bundle=studio.model.fingerprint
    )

    @app.get("/", response_class=HTMLResponse)
    def index() -> str:
        return page

    @app.get("/healthz")
    @app.get("/readyz")
    def healthy() -> dict[str, str]:
        return {"status": "ok", "bundle": studio.model.fingerprint}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        return studio.counts.text()


def _add_drawing(app: "FastAPI", studio: Studio) -> None:
    from fastapi import Request
    from starlette.concurrency import run_in_threadpool

    @app.post("/generate")
    async def generate(request: Request) -> dict[str, Any]:
        given = await read_json(request)
        caption, num_images, seed = given.get("caption"), given.get("num_images", 4), given.get("seed", 1)
        unknown = given.keys() - {"caption", "num_images", "seed"}
        is_whole = all(isinstance(number, int) and not isinstance(number, bool) for number in (num_images, seed))
        if not isinstance(caption, str) or not is_whole or unknown:
            raise Refused(422, 'expected {"caption": text, "num_images": whole number, "seed": whole number}.')
        drawn = await run_in_threadpool(studio.draw, caption, num_images, seed)
        return {
            "caption": caption,
            "seed": seed,
            "bundle": studio.model.fingerprint,
            "notes": drawn.notes,
            "images": [
                {
                    "png": _base64(picture, pictures.origin(caption, seed, studio.model.fingerprint, variant=number)),
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
        InputError: the packages are not installed, the bundle is none, or the port is taken.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise InputError(f'serve needs {error.name}; install attngan with its extra "serve".') from None
    from attngan.config import Config
    from attngan.weights import choose_device

    device = str(choose_device(Config(device=device)))
    app = create_app(Studio(find_bundle(bundle), name=name, device=device, max_images=max_images))
    # Bound here: where the port is taken uvicorn would end with a log line and status 1.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise InputError(f"{host}:{port}: cannot listen there ({error.strerror}); give another --port.") from None
        where = f"[{host}]" if family == socket.AF_INET6 else host
        print(f"serving {bundle} at http://{where}:{listening.getsockname()[1]}", flush=True)
        with suppress(KeyboardInterrupt):  # uvicorn has answered what was asked, and raises the signal again
            uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run([listening])


def _base64(picture: Any, about: dict[str, str | int] | None = None) -> str:
    return base64.b64encode(pictures.to_png(picture, about)).decode()
