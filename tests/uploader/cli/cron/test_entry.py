"""The line for cron: what it says, and how it goes into a tab and out without touching the rest."""

import itertools
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from uploader.cli.cron.entry import (
    JOINED,
    LONGEST,
    MARKS,
    CronEntry,
    CronError,
    command,
    compare,
    find,
    make,
    parse,
    put,
    schedule,
    take_out,
    variables,
)

EVEN = [60 * m for m in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)]
EVEN += [3600 * h for h in (1, 2, 3, 4, 6, 8, 12, 24)]

parts = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\").filter(str.isprintable)
    | st.sampled_from(" %'\"#$`"),
    min_size=1,
    max_size=20,
)
paths = st.lists(parts, min_size=1, max_size=4).map(lambda found: "/" + "/".join(found))
users = st.none() | st.from_regex(r"[a-z_][a-z0-9_-]{0,30}", fullmatch=True)
lines = st.builds(CronEntry, st.sampled_from(EVEN), paths, paths, users, st.sampled_from([*MARKS]))

UGLY = (
    b"",
    b"\n",
    b"# a comment\n\n  \t \n",
    b"MAILTO=ops@example.net\n*/7 * * * * /bin/true  \n",
    b"*/7 * * * * /bin/true",
    b"PATH = /usr/bin:/bin\r\n0 3 * * 1 /bin/backup\r\n",
    b"not a cron line at all\n@reboot /x # headgate\n61 * * * * bad\n",
    b"#*/5 * * * * /opt/headgate/bin/headgate drain --cron # headgate drain\n",
    b'* * * * * echo "\xff\xfe latin \xe9" # headgate drain, not\n',
    b"* * * * * /x % stdin % more\n\n\n",
)
MARK = MARKS["drain"]
LINE = CronEntry(300, "/opt/headgate/bin/headgate", "/etc/headgate/headgate.toml")
WATCH = CronEntry(60, LINE.headgate, LINE.config, task="watch")


def test_the_documented_line() -> None:
    assert make(LINE) == (
        "*/5 * * * * /opt/headgate/bin/headgate --config /etc/headgate/headgate.toml drain --cron "
        "# headgate drain"
    )


def test_a_file_of_cron_d_names_the_user_after_the_schedule() -> None:
    line = CronEntry(3600, "/bin/headgate", "/etc/h.toml", "pictures")
    assert make(line) == "@hourly pictures /bin/headgate --config /etc/h.toml drain --cron " + MARK


@given(lines)
def test_a_line_parses_back(line: CronEntry) -> None:
    assume(len(make(line).encode()) <= LONGEST)
    assert parse(make(line), with_user=line.user is not None) == line


def as_cron_reads(text: str) -> str:
    """crontab(5): a percent sign ends the command unless a backslash is before it."""
    before, unescaped, _ = re.sub(r"\\%", "\0", text).partition("%")
    assert not unescaped
    return before.replace("\0", "%")


@given(lines)
def test_the_shell_gets_the_paths_as_they_are(line: CronEntry) -> None:
    import shlex

    made = make(line)
    fields = (1 if made.startswith("@") else 5) + (line.user is not None)
    arguments = shlex.split(as_cron_reads(made.split(" ", fields)[fields]), comments=True)
    assert arguments == [line.headgate, "--config", line.config, line.task, "--cron"]
    assert shlex.split(command(line)) == arguments


@pytest.mark.parametrize("seconds", EVEN)
def test_the_schedule_comes_round_evenly(seconds: int) -> None:
    minute, hour, *days = schedule(seconds).split()
    assert days == ["*", "*", "*"]

    def fits(field: str, value: int) -> bool:
        if field == "*":
            return True
        return value % int(field[2:]) == 0 if field.startswith("*/") else value == int(field)

    starts = [m for m in range(2 * 1440) if fits(minute, m % 60) and fits(hour, m // 60 % 24)]
    assert {b - a for a, b in itertools.pairwise(starts)} == {seconds // 60}


@pytest.mark.parametrize(
    ("minutes", "nearest"),
    [(7, "6min or 10min"), (45, "30min or 1h"), (90, "1h or 2h"), (1000, "12h or 1d")],
)
def test_an_uneven_interval_is_refused_with_the_nearest_two(minutes: int, nearest: str) -> None:
    with pytest.raises(CronError, match=re.escape(f"set uplink.interval to {nearest}")):
        schedule(minutes * 60)


@pytest.mark.parametrize("path", ["/a\nb", "/a\rb", "/a\0b", "/a\x1bb", "/a\\b", "a/b", ""])
def test_a_path_that_cron_cannot_carry_is_refused(path: str) -> None:
    with pytest.raises(CronError):
        make(CronEntry(60, path, "/etc/h.toml"))
    with pytest.raises(CronError):
        make(CronEntry(60, "/bin/headgate", path))


@pytest.mark.parametrize("user", ["", "a b", "-x", "root\n", "a/b"])
def test_a_user_that_is_no_name_is_refused(user: str) -> None:
    with pytest.raises(CronError):
        make(CronEntry(60, "/bin/headgate", "/etc/h.toml", user))


def test_a_line_longer_than_cron_takes_is_refused() -> None:
    with pytest.raises(CronError, match="998"):
        make(CronEntry(60, "/bin/headgate", "/" + "x" * 1000))


@pytest.mark.parametrize("text", ["", MARK, f"* * * * * {MARK}", f"*/5 * * * * 'a {MARK}"])
def test_a_line_that_somebody_changed_is_not_ours_to_read(text: str) -> None:
    assert parse(text, with_user=False) is None
    assert parse(text, with_user=True) is None


tabs = (
    st.sampled_from(UGLY)
    | st.binary(max_size=200)
    | st.lists(st.sampled_from(UGLY), max_size=4).map(b"".join)
)


@pytest.mark.parametrize("tab", UGLY)
def test_no_foreign_line_is_taken_for_ours(tab: bytes) -> None:
    assert find(tab) == ()
    assert take_out(tab) == tab


@given(tabs)
def test_out_again_restores_every_byte(tab: bytes) -> None:
    assume(not find(tab))
    inside = put(tab, make(LINE))
    assert inside.startswith(tab)
    assert inside.endswith(b"\n")
    assert len(find(inside)) == 1
    assert take_out(inside) == tab
    both = put(inside, make(WATCH))
    assert len(find(both)) == 2
    assert put(put(both, make(LINE)), make(WATCH)) == both
    assert take_out(both) == take_out(put(put(tab, make(WATCH)), make(LINE))) == tab


@given(tabs)
def test_putting_it_in_twice_is_putting_it_in_once(tab: bytes) -> None:
    once = put(tab, make(LINE))
    assert put(once, make(LINE)) == once


@given(tabs, tabs)
def test_what_is_after_our_line_stays_too(before: bytes, after: bytes) -> None:
    assume(not find(before) and not find(after) and (not before or before.endswith(b"\n")))
    tab = put(before, make(LINE)) + after
    other = put(tab, make(CronEntry(60, "/a", "/b")))
    assert take_out(tab) == take_out(other) == before + after
    assert other == before + make(CronEntry(60, "/a", "/b")).encode() + b"\n" + after


def test_a_line_added_after_a_missing_newline_is_not_joined_to_what_was_there() -> None:
    tab = put(b"* * * * * /x", make(LINE))
    assert tab.endswith(JOINED.encode() + b"\n")
    assert take_out(tab + b"* * * * * /y\n") == b"* * * * * /x\n* * * * * /y\n"
    assert parse(find(tab)[0], with_user=False) == LINE


def test_several_lines_of_ours_become_one() -> None:
    ours = make(LINE).encode() + b"\n"
    old = make(CronEntry(60, "/old", "/old.toml")).encode() + b"\n"
    assert put(b"# a\n" + old + b"# b\n" + ours + b"# c\n", make(LINE)) == (
        b"# a\n" + ours + b"# b\n# c\n"
    )


def test_the_tab_s_own_variables_reach_our_line_and_later_ones_do_not() -> None:
    tab = b"A=1\n # B=2\n'C' = \"two words\" \nD='x\nA=3\n" + make(LINE).encode() + b"\nE=4\n"
    assert variables(tab) == {"A": "3", "C": "two words", "D": "'x"}


def test_a_tab_as_the_settings_want_it_has_no_faults() -> None:
    tab = put(put(b"", make(LINE)), make(WATCH))
    assert compare(tab, LINE) == compare(tab, WATCH) == []


@pytest.mark.parametrize(
    ("tab", "fault"),
    [
        (make(LINE).encode(), "not checked between runs"),
        (2 * (make(WATCH).encode() + b"\n"), "so watches start twice"),
        (
            make(CronEntry(300, LINE.headgate, LINE.config, task="watch")).encode(),
            "every 5min, not",
        ),
    ],
)
def test_a_watch_that_is_missing_or_late_is_said(tab: bytes, fault: str) -> None:
    (said,) = compare(tab, WATCH)
    assert re.search(fault, said.sentence) and said.fix == "headgate cron install"


@pytest.mark.parametrize(
    ("tab", "fault"),
    [
        (b"* * * * * /x\n", "starts no run"),
        (2 * (make(LINE).encode() + b"\n"), "start twice"),
        (make(CronEntry(60, LINE.headgate, LINE.config)).encode(), "every 1min, but .* is 5min"),
        (make(CronEntry(300, "/old", LINE.config)).encode(), "cron runs /old, not /opt"),
        (make(CronEntry(300, LINE.headgate, "/old")).encode(), "read /old, not /etc"),
        (make(LINE).replace("--cron", "--strict").encode(), "changed by hand"),
    ],
)
def test_a_difference_is_said_with_its_mend(tab: bytes, fault: str) -> None:
    (said,) = compare(tab, LINE)
    assert re.search(fault, said.sentence)
    assert said.fix == "headgate cron install"
    assert said.stopped == (fault == "starts no run")
