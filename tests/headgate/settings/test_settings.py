"""Settings: one table, four layers, and every fault named at once."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from headgate.settings.load import read_file
from headgate.settings.logins import without_login
from headgate.settings.settings import SETTINGS, Setting, Settings, SettingsError, combine
from headgate.settings.units import Percent

calm = hypothesis_settings(deadline=None)

BASE = Path("/srv/site")
FILE = BASE / "headgate.toml"


def one(name: str, value: Any) -> Settings:
    """The settings of a file that says this one thing."""
    section, _, key = name.partition(".")
    return combine({section: {key: value}}, FILE, {}, {}, BASE)


def faults_of(
    document: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[str, str] | None = None,
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refusal:
        combine(document, FILE, environment or {}, flags or {}, BASE, read_file)
    assert all(fault in str(refusal.value) for fault in refusal.value.faults)
    return refusal.value.faults


# -- the table


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_each_row_reads_its_own_default_and_says_what_it_is_for(row: Setting) -> None:
    row.parse(row.default)
    assert row.help.endswith(".") and row.help[0].isupper() and "\n" not in row.help
    assert row.name == f"{row.section}.{row.key}" == row.name.lower()
    assert row.variable == f"HEADGATE_{row.section}_{row.key}".upper()


def test_names_and_variables_are_each_used_once() -> None:
    assert len({row.name for row in SETTINGS}) == len(SETTINGS)
    assert len({row.variable for row in SETTINGS}) == len(SETTINGS)


def test_the_defaults_are_the_owners_site() -> None:
    settings = combine(None, None, {}, {}, BASE)
    assert settings.usual_rate == 40_000_000
    assert settings.usual_budget == 12_000_000_000
    assert settings.spool.path == BASE / "var/spool"
    assert set(settings.origin.values()) == {"default"}
    assert settings.file is None


# -- layers


@pytest.mark.parametrize("layers", list(itertools.product([False, True], repeat=3)))
def test_the_last_layer_that_speaks_wins_and_is_named(layers: tuple[bool, bool, bool]) -> None:
    in_file, in_environment, in_flags = layers
    settings = combine(
        {"uplink": {"share": "31%"}} if in_file else None,
        FILE,
        {"HEADGATE_UPLINK_SHARE": "32%"} if in_environment else {},
        {"uplink.share": "33%"} if in_flags else {},
        BASE,
    )
    value, origin = "20%", "default"
    if in_file:
        value, origin = "31%", str(FILE)
    if in_environment:
        value, origin = "32%", "HEADGATE_UPLINK_SHARE"
    if in_flags:
        value, origin = "33%", "flag"
    assert settings.uplink.share == Percent(int(value.removesuffix("%")) * 100)
    assert settings.written["uplink.share"] == value
    assert settings.origin["uplink.share"] == origin
    assert settings.origin["uplink.link"] == "default"


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_each_setting_can_be_given_as_a_variable(row: Setting) -> None:
    default = row.default if isinstance(row.default, str | int) else ",".join(row.default)
    settings = combine(None, None, {row.variable: str(default)}, {}, BASE)
    assert settings.origin[row.name] == row.variable
    assert settings.value(row.name) == combine(None, None, {}, {}, BASE).value(row.name)


def test_a_wrong_value_that_a_later_layer_replaces_does_no_harm() -> None:
    settings = combine({"uplink": {"share": "junk"}}, FILE, {}, {"uplink.share": "5%"}, BASE)
    assert settings.uplink.share == Percent(500)


# -- faults


def test_all_faults_of_all_layers_are_said_at_once() -> None:
    faults = faults_of(
        {
            "uplink": {"share": "120%", "speed": "9MB/s"},
            "alarm": {"loud": True},
            "site": "north",
            "receiver": {"bind": "8080"},
        },
        {"HEADGATE_UPLINK_LINK": "100Mb/s", "HEADGATE_COLOUR": "red"},
        {"uplink.interval": "5m", "uplink.when": "now"},
    )
    expected = [
        ("uplink.share", "at most 100%", str(FILE)),
        ("uplink.speed", "there is no setting", str(FILE)),
        ("[alarm]", "there is no section", str(FILE)),
        ("[site]", "there is no section", str(FILE)),
        ("receiver.bind", "address and port", str(FILE)),
        ("uplink.link", "bits or bytes", "HEADGATE_UPLINK_LINK"),
        ("HEADGATE_COLOUR", "there is no setting", ""),
        ("uplink.interval", "write min", "flag"),
        ("uplink.when", "there is no setting", ""),
    ]
    assert len(faults) == len(expected)
    for words in expected:
        assert [fault for fault in faults if all(word in fault for word in words)], words


WRONG: list[tuple[str, Any, str]] = [
    ("site.name", "", "name of letters"),
    ("site.name", "north west", "name of letters"),
    ("site.name", "north\n", "line break"),
    ("site.name", 5, "text in quotes"),
    ("spool.path", 5, "text in quotes"),
    ("spool.path", "", "folder"),
    ("spool.path", "a\0b", "line break"),
    ("spool.keep_done", 1, "no unit"),
    ("spool.keep_done", 1.5, "no unit"),
    ("spool.keep_done", True, "text in quotes"),
    ("spool.keep_done", "1000000d", "at most"),
    ("spool.keep_done_max", "10", "no unit"),
    ("spool.keep_free", "101%", "at most 100%"),
    ("spool.keep_receipts", "1d", "at least 2d"),
    ("spool.keep_receipts", "1000000d", "at most"),
    ("spool.dedupe", "1000000d", "at most"),
    ("receiver.bind", "127.0.0.1", "address and port"),
    ("receiver.bind", ":8080", "address and port"),
    ("receiver.bind", "127.0.0.1:65536", "address and port"),
    ("receiver.bind", "127.0.0.1:-1", "address and port"),
    ("receiver.max_image", "1000B", "at least 1KiB"),
    ("receiver.max_image", 20, "no unit"),
    ("receiver.field", "", "name"),
    ("receiver.field", 'a"b', "form field"),
    ("receiver.upload_status", 204, "200 to 201"),
    ("receiver.upload_status", "ok", "200 to 201"),
    ("receiver.upload_status", 200.5, "200 to 201"),
    ("receiver.upload_status", True, "200 to 201"),
    ("receiver.auth", "closed", "auto, token, open"),
    ("receiver.allow", ["192.168.10.5/24"], "host bits"),
    ("receiver.allow", ["north"], "network"),
    ("receiver.allow", 5, "must be a list"),
    ("receiver.allow", [5], "text in quotes"),
    ("receiver.threads", 0, "4 to 4096"),
    ("uplink.link", "12000", "no unit"),
    ("uplink.link", "999B/s", "less than 1kB/s"),
    ("uplink.link", "999999999TB/s", "at most"),
    ("uplink.share", 20, "no unit"),
    ("uplink.share", "0%", "less than 1kB/s"),
    ("uplink.interval", "30s", "whole minutes"),
    ("uplink.interval", "90s", "whole minutes"),
    ("uplink.interval", "2d", "whole minutes"),
    ("uplink.order", "random", "mixed, oldest, newest"),
    ("uplink.parallel", 0, "1 to 256"),
    ("uplink.parallel", "many", "1 to 256"),
    ("uplink.batch_images", -1, "0 to"),
    ("uplink.batch_bytes", "100", "no unit"),
    ("s3.bucket", "Photos", "bucket"),
    ("s3.bucket", "a", "bucket"),
    ("s3.prefix", "/photos/", "prefix"),
    ("s3.prefix", "my photos/", "prefix"),
    ("s3.layout", "flat", "device, date, hive"),
    ("s3.endpoint_url", "s3.example.net", "URL"),
    ("s3.endpoint_url", "https://", "URL"),
    ("s3.endpoint_url", "https://me:pass@s3.example.net", "remove the part before the @"),
    ("jobs.oidc_keys", "https://me:pass@example.net/keys", "remove the part before the @"),
    ("jobs.oidc_issuer", "https://me:pass@example.net", "remove the part before the @"),
    ("s3.region", "EU", "region"),
    ("log.file", "a\nb", "line break"),
]


@pytest.mark.parametrize(("name", "value", "hint"), WRONG)
def test_what_is_refused(name: str, value: Any, hint: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        one(name, value)
    (fault,) = refusal.value.faults
    assert hint in fault and name in fault


RIGHT: list[tuple[str, Any, Any]] = [
    ("spool.keep_done", "36h", 36 * 3600),
    ("spool.keep_done", "0s", 0),
    ("spool.keep_done_max", "7%", Percent(700)),
    ("spool.keep_done_max", "7GB", 7 * 10**9),
    ("receiver.bind", "[::1]:0", "[::1]:0"),
    ("receiver.upload_status", "200", 200),
    ("receiver.allow", ["192.168.10.0/24", "fe80::/10"], ("192.168.10.0/24", "fe80::/10")),
    ("receiver.allow", " 10.0.0.0/8 , 10.1.2.3", ("10.0.0.0/8", "10.1.2.3")),
    ("uplink.interval", "1d", 86400),
    ("uplink.parallel", "auto", "auto"),
    ("uplink.parallel", "7", 7),
    ("uplink.batch_bytes", "", 0),
    ("uplink.batch_bytes", "1GB", 10**9),
    ("s3.prefix", "photos/", "photos/"),
    ("s3.endpoint_url", "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
]


@pytest.mark.parametrize(("name", "value", "parsed"), RIGHT)
def test_what_is_read(name: str, value: Any, parsed: Any) -> None:
    assert one(name, value).value(name) == parsed


def test_receipts_are_kept_at_least_as_long_as_repeats_are_recognised() -> None:
    (fault,) = faults_of({"spool": {"keep_receipts": "3d", "dedupe": "4d"}})
    assert "spool.dedupe" in fault and "keep_receipts" in fault


@calm
@given(st.integers(1000, 10**12), st.integers(0, 10_000), st.integers(1, 24 * 60))
def test_the_budget_is_link_times_share_times_interval(
    link: int, hundredths: int, minutes: int
) -> None:
    values = {
        "uplink.link": f"{link}B/s",
        "uplink.share": str(Percent(hundredths)),
        "uplink.interval": f"{minutes}min",
    }
    rate = link * hundredths // 10_000
    if rate < 1000:
        with pytest.raises(SettingsError, match="less than 1kB/s"):
            combine(None, None, {}, values, BASE)
        return
    settings = combine(None, None, {}, values, BASE)
    assert settings.usual_rate == rate
    assert settings.usual_budget == rate * minutes * 60


# -- variables


def test_variables_with_a_meaning_of_their_own_are_no_settings() -> None:
    combine(None, None, {"HEADGATE_CONFIG": "x", "HEADGATE_TEST_SLOW": "1", "HOME": "/"}, {}, BASE)


@pytest.mark.parametrize(
    "variable", ["HEADGATE_", "HEADGATE_TEST", "HEADGATE_CONFIG_FILE", "HEADGATE_UPLINK_SHARE_"]
)
def test_a_variable_that_is_nearly_one_of_ours_is_refused(variable: str) -> None:
    (fault,) = faults_of(environment={variable: "1"})
    assert variable in fault


def test_only_a_secret_may_be_read_from_a_file() -> None:
    (fault,) = faults_of(environment={"HEADGATE_S3_BUCKET_FILE": "/run/secrets/bucket"})
    assert "HEADGATE_S3_BUCKET_FILE" in fault


def test_a_secret_is_read_from_the_file_that_the_variable_names(tmp_path: Path) -> None:
    file = tmp_path / "broker"
    file.write_text("redis://:hush@127.0.0.1/0\n")
    variable = "HEADGATE_QUEUE_BROKER_FILE"
    settings = combine(None, None, {variable: str(file)}, {}, BASE, read_file)
    assert settings.queue.broker == "redis://:hush@127.0.0.1/0"
    assert settings.origin["queue.broker"] == variable


def test_a_secret_that_cannot_be_read_is_a_fault_that_says_why(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for file, why in ((tmp_path / "gone", "No such file"), (binary, "UTF-8")):
        (fault,) = faults_of(environment={"HEADGATE_QUEUE_BROKER_FILE": str(file)})
        assert "HEADGATE_QUEUE_BROKER_FILE" in fault and str(file) in fault and why in fault


# -- paths


def test_relative_paths_begin_at_the_base_and_absolute_ones_stay() -> None:
    settings = combine({"log": {"file": "log/runs"}, "spool": {"path": "s"}}, FILE, {}, {}, BASE)
    assert settings.spool.path == BASE / "s"
    assert settings.log.file == str(BASE / "log/runs")
    settings = combine({"log": {"file": "/l"}, "spool": {"path": "/s"}}, FILE, {}, {}, BASE)
    assert (settings.spool.path, settings.log.file) == (Path("/s"), "/l")
    assert combine(None, None, {}, {}, BASE).log.file == ""


# -- logins in URLs


@pytest.mark.parametrize(
    "url",
    [
        "https://me:pass@s3.example.net",
        "https://me:pass@s3.example.net/a/b?c=pass@d",
        "ftp://me:pass@s3.example.net",
        "https://me:pass/pass@s3.example.net",
    ],
)
@pytest.mark.parametrize("name", ["s3.endpoint_url", "jobs.oidc_keys", "jobs.oidc_issuer"])
def test_no_fault_shows_the_password_of_a_url(name: str, url: str) -> None:
    faults = faults_of(flags={name: url})
    assert (
        len(faults) == 1 and name in faults[0] and "pass" not in faults[0].replace("password", "")
    )


def test_urls_are_shown_without_their_logins() -> None:
    said = (
        'no answer from "http://me:p@ss@proxy:3128" and redis://:pass@host/0, says ops@example.net'
    )
    shown = 'no answer from "http://***@proxy:3128" and redis://***@host/0, says ops@example.net'
    assert without_login(said) == shown
    assert without_login("mail to ops@example.net") == "mail to ops@example.net"


SHARING = {"uplink": {"shared": "redis://r/0", "gateway": "gw1", "gateways": 3, "floor": "1MB/min"}}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"gateway": ""}, "uplink.gateway: uplink.shared is set"),
        ({"shared": ""}, "uplink.shared: uplink.gateway is set"),
        ({"floor": ""}, "uplink.floor: gateways that share"),
        ({"floor": "800MB/min"}, ""),  # 3 x 800 is the 2,400 that may leave
        ({"floor": "801MB/min"}, "uplink.gateways x uplink.floor is more than link x share"),
    ],
)
def test_gateways_that_share_an_uplink_need_a_name_a_redis_and_a_floor(
    change: dict[str, str], fault: str
) -> None:
    document = {"uplink": {**SHARING["uplink"], **change}}
    if fault:
        with pytest.raises(SettingsError, match=fault):
            combine(document, None, {}, {}, Path("/"))
    else:
        assert combine(document, None, {}, {}, Path("/")).shares_uplink
