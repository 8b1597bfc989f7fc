"""The CloudFormation template of deploy/aws, as tests read it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).parents[2] / "deploy" / "aws" / "headgate.yaml"


class _Loader(yaml.SafeLoader):
    """Short forms of functions become their long ones: ``!Ref x`` is ``{"Ref": "x"}``."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    return {name: value}


_Loader.add_multi_constructor("!", _function)


def template() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(TEMPLATE.read_text(encoding="utf-8"), _Loader)
    return loaded


def scheduled_message(site: str, *, execution: str, at: datetime) -> str:
    """What EventBridge Scheduler puts into the queue: the Input, with its keywords filled in
    (EventBridge Scheduler user guide, "Adding context attributes")."""
    text = template()["Resources"]["Scheduled"]["Properties"]["Target"]["Input"]["Fn::Sub"]
    return str(
        text.replace("${SiteName}", site)
        .replace("<aws.scheduler.execution-id>", execution)
        .replace("<aws.scheduler.scheduled-time>", f"{at:%Y-%m-%dT%H:%M:%SZ}")
    )
