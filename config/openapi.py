"""`GET /api/openapi.json`: the JSON API as OpenAPI 3.1. `tests/config/test_openapi.py` holds it against the code."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from access.models import ALPHABET, PREFIX, SECRET_CHARACTERS
from access.permissions import VIEW_EVENTS
from access.problems import refusal
from events.api import DEFAULT_LIMIT, MAX_LIMIT, OWN_TYPES
from events.log import MAX_INSTANCE_CHARACTERS, RESERVED_TYPES, TYPE
from lifecycle.orders import MAX_FOR_CHARACTERS
from lifecycle.state_machine import State
from lifecycle.transitions.control import MAX_REASON_CHARACTERS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
TIME: Schema = {"type": "string", "format": "date-time"}
EVENT_ID: Schema = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
ANY_OBJECT: Schema = {"type": "object"}
#: A type that `events.log` keeps and that Dormouse does not keep for itself.
NEW_TYPE = "^(?!{})(?!({})$){}$".format(
    "|".join(OWN_TYPES).replace(".", "[.]"), "|".join(sorted(RESERVED_TYPES)), TYPE.pattern
)


def nullable(schema: Schema) -> Schema:
    """Return a schema that also allows null."""
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: Schema) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": items}


def record(**properties: Schema) -> Schema:
    """Return the schema of an object that has all of these members and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def ref(name: str) -> Schema:
    """Return a reference to a schema of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


LEASE = record(
    works=NUMBER,
    since=TIME,
    age_seconds=NUMBER,
    by=nullable(TEXT),
    by_kind={"enum": ["user", "token", "command", None]},
    **{"for": array(TEXT)},
)
SCHEMAS: dict[str, Schema] = {
    "Instance": record(
        name=TEXT,
        state={"enum": [str(state) for state in State]},
        since=TIME,
        run=NUMBER,
        paused={"type": "boolean"},
        present={"type": "boolean"},
        leases=array(LEASE),
        needs=array(TEXT),
        needed_by=array(TEXT),
        sleeps_at=nullable(TIME),
        awake_until=nullable(TIME),
        awake_by=nullable(TEXT),
        disabled=nullable(ref("Disabled")),
        last_failure=nullable(ANY_OBJECT),
        stop_failure=nullable(ANY_OBJECT),
        last_exit=nullable(ANY_OBJECT),
        work_failure=nullable(ANY_OBJECT),
        label_error=nullable(TEXT),
        label_warning=nullable(TEXT),
    ),
    "Disabled": {
        "type": "object",
        "properties": {
            "at": TIME,
            "reason": TEXT,
            "force": {"type": "boolean"},
            "by": TEXT,
            "by_kind": {"enum": ["user", "token", "command"]},
            "for": TEXT,
        },
        "required": ["at", "reason", "force"],
        "additionalProperties": False,
    },
    "Instances": record(
        version=TEXT,
        engines=array(record(engine=TEXT, asked=TIME, answered=nullable(TIME), error=TEXT, neighbour=TEXT)),
        instances=array(ref("Instance")),
    ),
    "Event": record(
        id=NUMBER,
        type=TEXT,
        instance=nullable(TEXT),
        at=TIME,
        data=ANY_OBJECT,
        sentence=TEXT,
        failure={"type": "boolean"},
    ),
    "Events": record(
        events=array(ref("Event")),
        next=NUMBER,
        reset=nullable(record(requested=NUMBER, oldest=NUMBER, latest=NUMBER)),
    ),
    "NewEvent": {
        "type": "object",
        "properties": {
            "type": {"type": "string", "pattern": NEW_TYPE},
            "instance": {"type": "string", "maxLength": MAX_INSTANCE_CHARACTERS},
            "data": ANY_OBJECT,
        },
        "required": ["type"],
        "additionalProperties": False,
    },
    "Problem": {
        "type": "object",
        "description": "An error (RFC 9457). Some errors have further members.",
        "properties": {"type": TEXT, "title": TEXT, "status": NUMBER, "detail": TEXT},
        "required": ["type", "title", "status", "detail"],
    },
}

DESCRIPTIONS = {
    400: "The request cannot be read.",
    401: "There is no valid token and no session.",
    403: "The permission is missing, or the token is not for this instance.",
    404: "No such instance is known.",
    409: "The instance is not in a state for that, or its labels are in error.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    422: "The body says what it must not.",
    503: "The instance is disabled or cannot be started or stopped, or the engine or the database cannot be used.",
}


def problem(description: str) -> Schema:
    """Return a response with problem details."""
    return {"description": description, "content": {"application/problem+json": {"schema": ref("Problem")}}}


def operation(summary: str, *errors: int, answer: Schema, status: int = 200, **more: Any) -> Schema:
    """Return an operation that answers with `answer`, or with one of `errors` or those that all have."""
    problems = {str(error): problem(DESCRIPTIONS[error]) for error in sorted({*errors, 400, 401, 403, 503})}
    success = {"description": "As asked.", "content": {"application/json": {"schema": answer}}}
    return {"summary": summary, "responses": {str(status): success} | problems} | more


def query(name: str, schema: Schema, description: str) -> Schema:
    """Return a parameter of the query."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def json_body(schema: Schema) -> Schema:
    """Return a request body that must be sent."""
    return {"required": True, "content": {"application/json": {"schema": schema}}}


NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
FILTERS = [
    query("instance", array(TEXT), "Only events of these instances."),
    query("type", array(TEXT), "Only events of these types."),
]
FOR = {
    "name": "Dormouse-For",
    "in": "header",
    "schema": TEXT,
    "description": f"Who or what it is for. Events and leases tell its first {MAX_FOR_CHARACTERS} characters as `for`.",
}
FORCE = query("force", {"type": "boolean", "default": False}, "Break work in flight off.")
DURATION: Schema = {"type": "string", "description": "For how long, as 30m or 1h30m; at most 24h.", "examples": ["1h"]}
REASON: Schema = {
    "type": "object",
    "properties": {"reason": {"type": "string", "maxLength": MAX_REASON_CHARACTERS}},
    "additionalProperties": False,
}
#: What the agent answers passes through as it is.
AGENTS_ANSWER = {"description": "The agent's answer, or a problem.", "content": {"*/*": {}}}

PATHS: dict[str, dict[str, Any]] = {
    "/api/instances": {
        "get": operation("Every instance, and the last look at each engine.", answer=ref("Instances")),
    },
    "/api/instances/{name}": {
        "parameters": [NAME],
        "get": operation("One instance.", 404, answer=ref("Instance")),
    },
    "/api/instances/{name}/dispatch": {
        "parameters": [NAME],
        "post": {
            "summary": "Wake the instance if necessary, and hand it the body. Its answer comes back as it is written.",
            "parameters": [FOR],
            "requestBody": {"content": {"*/*": {}}},
            "responses": {"default": AGENTS_ANSWER},
        },
    },
    "/api/instances/{name}/proxy/{path}": {
        "parameters": [NAME, {"name": "path", "in": "path", "required": True, "schema": TEXT}],
        **{
            method: {
                "summary": "Wake the instance if necessary, and pass the request on to this path, with its query.",
                **({} if method in ("get", "head") else {"requestBody": {"content": {"*/*": {}}}}),
                "responses": {"default": AGENTS_ANSWER},
            }
            for method in ("get", "head", "post", "put", "patch", "delete", "options")
        },
    },
    "/api/instances/{name}/wake": {
        "parameters": [NAME, FOR],
        "post": operation(
            "Wake the instance, and answer when it is ready. `latency_ms` is null if it was ready.",
            *(404, 409),
            answer=record(state={"const": "ready"}, latency_ms=nullable(NUMBER)),
        ),
    },
    "/api/instances/{name}/sleep": {
        "parameters": [NAME, FOR],
        "post": operation(
            "Put the instance to sleep, and answer when it is asleep. 409 while work is in flight.",
            *(404, 409),
            answer=record(state={"const": "asleep"}),
            parameters=[FORCE],
        ),
    },
    "/api/instances/{name}/awake-until": {
        "parameters": [NAME, FOR],
        "put": operation(
            "Do not put the instance to sleep before a time. 409 unless it is ready. Nothing is shortened by it.",
            *(404, 409, 413, 415, 422),
            answer=record(until=TIME),
            requestBody=json_body({"oneOf": [record(**{"for": DURATION}), record(until=TIME)]}),
        ),
        "delete": operation(
            "Put it to sleep again when it is idle. What another caller decided needs the permission to control it.",
            404,
            answer=record(until={"type": "null"}),
        ),
    },
    "/api/instances/{name}/disabled": {
        "parameters": [NAME, FOR],
        "put": operation(
            "Refuse new work, and put the instance to sleep when its work has ended.",
            *(404, 413, 415, 422),
            answer=record(disabled=ref("Disabled")),
            parameters=[FORCE],
            requestBody=json_body(REASON),
        ),
        "delete": operation("Accept work again.", 404, answer=record(disabled={"type": "null"})),
    },
    "/api/events": {
        "get": operation(
            "A page of the log, oldest first.",
            answer=ref("Events"),
            parameters=[
                query("after", EVENT_ID, "A cursor: the id of the last event seen. Without it, from the oldest kept."),
                query(
                    "limit",
                    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
                    "How many events at most.",
                ),
                *FILTERS,
            ],
        ),
        "post": operation(
            "Record an event of one's own. `by` and `at` are the server's.",
            *(413, 415, 422),
            answer=ref("Event"),
            status=201,
            requestBody=json_body(ref("NewEvent")),
        ),
    },
    "/api/openapi.json": {
        "get": operation("This description.", answer=ANY_OBJECT),
    },
    "/metrics": {
        "get": {
            "summary": "The metrics of this process and of the database, for Prometheus.",
            "responses": {
                "200": {
                    "description": "Prometheus's text format, version 0.0.4.",
                    "content": {"text/plain": {"schema": TEXT}},
                }
            }
            | {str(error): problem(DESCRIPTIONS[error]) for error in (400, 401, 403, 503)},
        },
    },
    "/events": {
        "get": {
            "summary": "The log as server-sent events, which go on until the caller hangs up.",
            "parameters": [query("after", TEXT, "A cursor. Without it, the stream begins now."), *FILTERS],
            "responses": {
                "default": {"description": "The stream, or a problem.", "content": {"text/event-stream": {}}}
            },
        },
    },
}

DESCRIPTION = {
    "openapi": "3.1.0",
    "info": {"title": "Dormouse", "version": settings.DORMOUSE_VERSION},
    "servers": [{"url": settings.DORMOUSE_BASE_PATH or "/"}],
    "paths": PATHS,
    "components": {
        "schemas": SCHEMAS,
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": f"{PREFIX} and {SECRET_CHARACTERS} of {ALPHABET}",
            },
            "token": {"type": "apiKey", "in": "header", "name": "Dormouse-Token"},
        },
    },
    "security": [{"bearer": []}, {"token": []}],
}


@csrf_exempt  # it changes nothing
@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """Answer `GET /api/openapi.json`, for every user who may see events."""
    refused = refusal(request.user, request.user.has_perm(VIEW_EVENTS), VIEW_EVENTS)
    return refused or JsonResponse(DESCRIPTION)
