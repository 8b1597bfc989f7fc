"""Reading one answer of ListObjectsV2."""

from __future__ import annotations

from urllib.parse import unquote_plus
from xml.etree import ElementTree

from uploader.destination.contract import Page
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.http import normal_etag


def page_of(body: bytes) -> Page:
    """The objects that it lists. SendError if it is no listing."""
    try:
        root = ElementTree.fromstring(body)
        if _plain(root.tag) != "ListBucketResult":
            raise ValueError(root.tag)
        objects = dict(_object(entry) for entry in root if _plain(entry.tag) == "Contents")
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise SendError(
            ErrorKind.TRANSIENT,
            "no-listing",
            "The server gave no listing of the bucket that can be read; its objects are asked for "
            "one by one.",
        ) from error
    more = any(_plain(one.tag) == "IsTruncated" and one.text == "true" for one in root)
    return Page(objects, more)


def versions_of(body: bytes, key: str) -> list[str]:
    """The version ids of one key in an answer of ListObjectVersions, which lists all that begin so.
    SendError if it is no listing."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise SendError(
            ErrorKind.TRANSIENT, "no-listing", "The server gave no listing of versions."
        ) from error
    found = []
    for entry in root:
        if _plain(entry.tag) in ("Version", "DeleteMarker"):
            said = {_plain(one.tag): one.text or "" for one in entry}
            if unquote_plus(said.get("Key", "")) == key:
                found.append(said.get("VersionId", ""))
    return found


def _object(entry: ElementTree.Element) -> tuple[str, tuple[int, str]]:
    said = {_plain(one.tag): one.text or "" for one in entry}
    return unquote_plus(said["Key"]), (int(said["Size"]), normal_etag(said.get("ETag", "")))


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2]  # without its name space
