"""The CloudFormation template: cfn-lint finds nothing, and what it promises is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.template import TEMPLATE, scheduled_message, template
from uploader.queue.celery_config import MOST_DELIVERIES, SLACK_SECONDS, configuration
from uploader.queue.celery_config import Broker as To
from uploader.queue.message import ASKED_AT, SENDER, envelope

AT = datetime(2026, 11, 23, 16, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return template()


def properties(made: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = made["Resources"][name]["Properties"]
    return found


@pytest.mark.slow
def test_cfn_lint_finds_nothing() -> None:
    ran = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--include-checks", "W", "--", TEMPLATE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_schedules_message_is_the_one_that_the_worker_reads() -> None:
    text = scheduled_message("north", execution="9f5c2e", at=AT)
    wanted = envelope(
        "headgate-north", "9f5c2e", sender="scheduler", asked_at="2026-11-23T16:05:00Z"
    )
    assert json.loads(text) == wanted
    assert set(wanted["headers"]) == {"task", "id", "lang", SENDER, ASKED_AT}
    assert len(text) < 262_144  # SQS takes no more


def test_the_page_shows_the_same_message() -> None:
    page = (TEMPLATE.parents[2] / "docs" / "QUEUE.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- the message -->\n\n```json\n")[2].partition("```")[0]
    text = scheduled_message("north", execution="9f5c2e", at=AT)
    assert json.loads(shown) == json.loads(text)


def test_the_queue_puts_poison_aside_after_as_many_deliveries_as_the_worker(
    made: dict[str, Any],
) -> None:
    queue = properties(made, "Queue")
    assert queue["RedrivePolicy"]["maxReceiveCount"] == MOST_DELIVERIES
    assert queue["ReceiveMessageWaitTimeSeconds"] == 20
    parameters = made["Parameters"]
    interval = parameters["IntervalSeconds"]["Default"]
    assert parameters["VisibilitySeconds"]["Default"] == interval + SLACK_SECONDS
    to = To("sqs", "sqs://", "headgate-north", "https://sqs.eu-central-1.amazonaws.com/1/x", "eu")
    options = configuration(to, interval)["broker_transport_options"]
    assert options["visibility_timeout"] == interval + SLACK_SECONDS


def test_the_bucket_is_versioned_encrypted_private_and_only_for_tls(made: dict[str, Any]) -> None:
    bucket = made["Resources"]["Bucket"]
    assert bucket["DeletionPolicy"] == "Retain"
    of = bucket["Properties"]
    assert of["VersioningConfiguration"]["Status"] == "Enabled"
    assert of["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert all(of["PublicAccessBlockConfiguration"].values())
    assert of["LifecycleConfiguration"]["Rules"]
    for policy in ("BucketPolicy", "QueuePolicy"):
        (statement,) = properties(made, policy)["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_gateway_may_do_what_it_needs_and_delete_nothing(made: dict[str, Any]) -> None:
    statements = properties(made, "GatewayPolicy")["PolicyDocument"]["Statement"]
    actions: set[str] = set()
    for statement in statements:
        said = statement["Action"]
        actions |= {said} if isinstance(said, str) else set(said)
    assert actions == {
        "s3:PutObject", "s3:GetObject", "s3:ListBucket", "sqs:ReceiveMessage", "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:SendMessage",
        "cloudwatch:PutMetricData",
    }  # fmt: skip
