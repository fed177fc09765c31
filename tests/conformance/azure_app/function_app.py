"""A function app that shows what the host hands over, for the host's own tests."""

import json
import os
import threading
import time

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
_meeting = threading.Barrier(8, timeout=20)


@app.route("echo/{name}", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    seen = {
        "method": req.method,
        "url": req.url,
        "headers": dict(req.headers),
        "params": dict(req.params),
        "route_params": dict(req.route_params),
        "body": req.get_body().decode("latin-1"),
    }
    headers = {"X-Shown": "yes", "Cache-Control": "no-store"}
    return func.HttpResponse(json.dumps(seen), headers=headers, mimetype="application/json")


@app.route("accounts/{email}:sign", methods=["POST"])
def complex_segment(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.route_params["email"])


@app.route("files/{*rest}")
def files(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.route_params.get("rest", "(none)"))


@app.route("items/{item:int}")
def typed(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.route_params["item"])


@app.route("keyed", auth_level=func.AuthLevel.FUNCTION)
def keyed(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("opened")


@app.route("admin-only", auth_level=func.AuthLevel.ADMIN)
def admin_only(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("opened")


@app.route("environment")
def environment(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(dict(os.environ)))


@app.route("fails")
def fails(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("the text that belongs in the log")


@app.route("nothing")
def nothing(req: func.HttpRequest) -> func.HttpResponse:
    return None  # type: ignore[return-value]


@app.route("plain")
def plain(req: func.HttpRequest) -> str:
    return "just text"


@app.route("meet")
def meet(req: func.HttpRequest) -> func.HttpResponse:
    """Answers once eight requests are inside at the same time."""
    _meeting.wait()
    return func.HttpResponse("met")


@app.route("slow")
def slow(req: func.HttpRequest) -> func.HttpResponse:
    time.sleep(2)
    return func.HttpResponse("late")
