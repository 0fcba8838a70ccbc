"""A page that describes the API, made of its own description; it loads nothing from anywhere."""

import html
import json
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from server.api.rights import OPEN

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f3f3}pre{padding:.6rem;overflow:auto}
h2{margin:2rem 0 .2rem;font-size:1rem}.method{display:inline-block;width:4.5rem;color:#a50}"""


def add_docs(api: FastAPI) -> None:
    """`/api/v1/docs`, for people; programs read `/api/v1/openapi.json`."""

    @api.get("/api/v1/docs", include_in_schema=False, dependencies=[OPEN])
    async def docs() -> HTMLResponse:
        return HTMLResponse(_page(api.openapi()))


def _page(openapi: dict[str, Any]) -> str:
    schemas = openapi.get("components", {}).get("schemas", {})
    parts = [
        _operation(path, method, operation, schemas)
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Loa's API</title>"
        f"<style>{_STYLE}</style><h1>Loa's API</h1><p>Every error is "
        "<code>application/problem+json</code> (RFC 9457): its <code>detail</code> is one line. "
        "Every call, but for this page and the description, "
        "needs a session or a token in its head: <code>Authorization: Bearer SESSION</code>. "
        "<code>POST /api/v1/login</code> gives a session; on the station's machine <code>loa keys "
        "token</code> prints the operator's token, and <code>loa keys show</code> "
        "the SHA-256 of the certificate by which a program knows the station. For programs: "
        f"<a href=/api/v1/openapi.json>OpenAPI</a>.{''.join(parts)}</html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    what = html.escape(operation.get("description", ""))
    shown = f"<h2><code><span class=method>{method.upper()}</span> {html.escape(path)}</code></h2>"
    shown += f"<p>{what}</p>"
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    schema = schemas.get(reference.rpartition("/")[2])
    if schema is not None:
        fields = json.dumps(schema.get("properties", {}), indent=1, ensure_ascii=False)
        shown += f"<details><summary>body</summary><pre>{html.escape(fields)}</pre></details>"
    return shown
