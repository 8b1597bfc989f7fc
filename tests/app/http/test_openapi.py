"""The OpenAPI document: valid, about the addresses that are there, and true of what is answered."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask

from app import create_app
from app.http import openapi
from app.refusals import REFUSALS
from app.upload import fields
from tests.support.receiver import Receiver, environment, part
from tests.support.spooling import open_spool


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    spool = open_spool(tmp_path)
    yield create_app(spool)
    spool.close()


@pytest.fixture
def described(app: Flask) -> dict[str, Any]:
    answer = app.test_client().get("/openapi.json")
    assert answer.status_code == 200
    found = answer.json
    assert isinstance(found, dict)
    return found


def test_it_describes_each_address_and_method_and_no_other(
    app: Flask, described: dict[str, Any]
) -> None:
    there = {
        (re.sub(r"<([a-z]+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "static" and not rule.endpoint.startswith("people.")
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS") or "options" in rule.endpoint
    }
    told = {
        (path, method)
        for path, item in described["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert told == there


def test_every_refusal_belongs_to_some_address(described: dict[str, Any]) -> None:
    text = json.dumps(described["paths"])
    told = {code for code in REFUSALS if re.search(rf"\b{code}\b", text)}
    people = {code for code, row in REFUSALS.items() if row.for_people}
    assert set(REFUSALS) - told - people == {"method_not_allowed"}  # of every address alike


def test_every_field_and_header_is_in_it(described: dict[str, Any]) -> None:
    upload = described["paths"]["/images"]["post"]
    names = {parameter["name"] for parameter in upload["parameters"]}
    assert set(fields.HEADERS.values()) <= names
    form = upload["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"image", *fields.FIELDS}


def schema(described: dict[str, Any], name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": described["components"]}


def test_answers_are_as_it_says(receiver: Receiver) -> None:
    described = receiver.get("/openapi.json").json
    photo = (Path(__file__).parents[3] / "docs" / "photos" / "rocket.jpg").read_bytes()
    photo += b"\0openapi"
    sent = receiver.post_form(
        part("image", photo, "a.jpg"), part("device", "cam-api"), part("sequence", "3")
    )
    for answer, name in (
        (sent, "Accepted"),
        (receiver.get(f"/images/{sent.json['id']}"), "Receipt"),
        (receiver.get("/devices/cam-api/gaps"), "Gaps"),
        (receiver.get("/limits"), "Limits"),
        (receiver.get("/images/none"), "Problem"),
        (receiver.post_raw(b"no image"), "Problem"),
    ):
        jsonschema_rs.validate(schema(described, name), answer.json)


def test_a_schema_that_is_wrong_is_noticed(described: dict[str, Any]) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema(described, "Problem"), {"code": "nonsense"})


@pytest.mark.slow
def test_schemathesis_finds_no_answer_that_it_does_not_describe(
    receiver: Receiver, tmp_path: Path
) -> None:
    """Requests as the document allows them and as it does not: no 5xx, no undocumented status,
    no body unlike its schema."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{receiver.url}/openapi.json"]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"  # noqa: E501
    ran = subprocess.run(
        [*command, "--max-examples=4", "--seed=1", f"--checks={checks}", "--no-color",
         "--phases=examples,coverage,fuzzing"],
        capture_output=True, text=True, timeout=170, env=environment() | {"PYTHONPATH": ""},
        cwd=tmp_path,  # it leaves a folder behind
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert re.search(r"[1-9]\d* generated", ran.stdout), ran.stdout[-2000:]


def test_each_document_has_its_receivers_own_limits(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, receiver__field="photo", receiver__upload_status="200")
    try:
        found = create_app(spool).test_client().get("/openapi.json").json
    finally:
        spool.close()
    assert found is not None
    upload = found["paths"]["/uploadImage"]["post"]
    form = upload["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["photo"]
    assert "201" not in upload["responses"]
    assert openapi.description.__doc__
