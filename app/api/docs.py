"""`/docs`: Swagger UI from an installed package, so that the page also works without a network."""

from base64 import b64decode

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from app.api.schemas import EXAMPLE_PNG

_PAGE = "/docs"
_EXAMPLE = "/docs/example.png"
_ASSETS = "/docs-assets"


def install(app: FastAPI) -> None:
    """Add the page and its assets."""
    app.mount(_ASSETS, StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get(_PAGE, include_in_schema=False)
    async def page(request: Request) -> HTMLResponse:
        # Behind a proxy the application may be mounted below a path of its own.
        root = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} API",
            swagger_js_url=f"{root}{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_ASSETS}/favicon-32x32.png",
            swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
        )

    @app.get(_EXAMPLE, include_in_schema=False)
    async def example() -> Response:
        return Response(b64decode(EXAMPLE_PNG), media_type="image/png")
