"""Tabs, and the rehearsal in cron's own environment, with real files and real programs."""

import os
import stat
from pathlib import Path

import pytest

from headgate.settings.load import load
from headgate.settings.settings import Settings
from uploader.cli.cron import crontabs as cron
from uploader.cli.cron import entry as crontab_line
from uploader.cli.cron.entry import CronEntry, CronError
from uploader.cli.cron.trial import Trial, bare_environment

CRONTAB = """\
#!/bin/sh
# crontab(1) with its tab in a file, and as strict about the last newline as Debian's.
tab={tab}
case "$1" in
-l) [ -e "$tab" ] && exec cat "$tab"; echo "no crontab for somebody" >&2; exit 1;;
-r) exec rm "$tab";;
-) cat >"$tab.new"; [ -z "$(tail -c 1 "$tab.new")" ] || {{ echo "new crontab file is missing \
newline before EOF, can't install." >&2; exit 1; }}; exec mv "$tab.new" "$tab";;
*) echo "usage" >&2; exit 1;;
esac
"""


@pytest.fixture
def tab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the crontab command of these tests keeps its tab."""
    programs = tmp_path / "programs"
    programs.mkdir()
    path = tmp_path / "the-tab"
    script(programs / "crontab", CRONTAB.format(tab=path))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return path


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("HEADGATE_", "AWS_")):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_an_absent_tab_is_empty_and_an_emptied_one_is_removed(tab: Path) -> None:
    user = cron.UserTab()
    assert user.read() == b""
    user.write(b"* * * * * /x\n")
    assert tab.read_bytes() == user.read() == b"* * * * * /x\n"
    user.write(b"")
    assert not tab.exists()


def test_bytes_of_any_kind_go_through_the_crontab_command(tab: Path) -> None:
    ugly = b"# caf\xe9\r\n\t\nA = 'b' \n* * * * * /x  \n"
    cron.UserTab().write(ugly)
    assert cron.UserTab().read() == ugly


def test_what_crontab_refuses_is_said(tab: Path) -> None:
    with pytest.raises(CronError, match="missing newline"):
        cron.UserTab().write(b"* * * * * /x")
    assert not tab.exists()


def test_a_tab_that_cannot_be_read_is_not_taken_for_an_empty_one(tab: Path) -> None:
    script(
        tab.parent / "programs" / "crontab",
        "#!/bin/sh\necho 'You (somebody) are not allowed to use this program' >&2; exit 1\n",
    )
    with pytest.raises(CronError, match="not allowed"):
        cron.UserTab().read()


def test_a_machine_without_cron_is_told_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cron.shutil, "which", lambda *_args, **_options: None)
    with pytest.raises(CronError, match="apt-get install cron"):
        cron.UserTab().read()


def test_a_file_is_replaced_readable_by_all_and_gone_when_empty(tmp_path: Path) -> None:
    file = cron.FileTab(tmp_path / "headgate")
    assert file.read() == b""
    file.write(b"* * * * * root /x\n")
    assert file.read() == b"* * * * * root /x\n"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o644
    file.write(b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["headgate.cron", "head gate", ".headgate"])
def test_a_name_that_cron_passes_over_is_refused(name: str) -> None:
    with pytest.raises(CronError, match="cron ignores"):
        cron.FileTab(cron.CRON_D / name).read()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(CronError, match="cannot write"):
        cron.FileTab(tmp_path / "absent" / "headgate").write(b"x\n")


def test_a_user_that_does_not_exist_is_said() -> None:
    with pytest.raises(CronError, match="no user nobody-of-this-name"):
        cron.account("nobody-of-this-name")


def settings_file(folder: Path, text: str = "") -> Path:
    path = folder / "headgate.toml"
    path.write_text(f'[s3]\nbucket = "pictures"\nregion = "eu-central-1"\n{text}')
    return path


def test_the_line_follows_the_settings(tmp_path: Path) -> None:
    path = settings_file(tmp_path, '[uplink]\ninterval = "10min"\n')
    line = cron.line_for(load(str(path)), user=None)
    assert (line.interval_seconds, line.config, line.user) == (600, str(path), None)
    assert line.headgate.endswith("/headgate")
    assert Path(line.headgate).is_file()


def test_settings_without_a_file_are_no_settings_for_cron(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("headgate.settings.load.FILE", "absent.toml")
    with pytest.raises(CronError, match="no settings file"):
        cron.line_for(load(), user=None)


# -- the rehearsal -------------------------------------------------------------------------------

REACH = (
    '{"access_key": "KEY", "method": "a-file", "region": "eu-central-1", '
    '"bucket": "https://pictures.s3.eu-central-1.amazonaws.com/"}'
)


class Stage:
    """A stand-in for the headgate command that answers as one in cron's environment would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = settings_file(folder)
        self.variables: dict[str, str] = {}
        self.answer()

    def answer(self, reach: str = f"echo '{REACH}'; exit 0", then: str = "exit 0") -> None:
        self.headgate = script(
            self.folder / "headgate",
            f'#!/bin/sh\n[ "$4" = reach ] && {{ {reach}; }}\n'
            f'env >"{self.folder}/environment"; echo "$@" >"{self.folder}/arguments"\n{then}\n',
        )

    def rehearse(self, here: Settings | None = None) -> None:
        line = CronEntry(300, str(self.headgate), str(self.config))
        account = cron.account(None)
        environment = {**bare_environment(account, self.variables), "HOME": str(self.folder)}
        Trial(crontab_line.command(line), line.headgate, line.config, account, environment).check(
            here or load(str(self.config))
        )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_the_very_line_is_tried_with_nothing_of_this_shell(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_IN_THIS_SHELL", "1")
    stage.variables = {"MAILTO": "ops@example.net"}
    stage.rehearse()
    said = (stage.folder / "arguments").read_text()
    assert said == f"--config {stage.config} drain --cron --dry-run\n"
    names = {line.partition("=")[0] for line in (stage.folder / "environment").read_text().split()}
    assert names - {"PWD", "OLDPWD", "_", "SHLVL"} == {
        "HOME",
        "LOGNAME",
        "SHELL",
        "PATH",
        "MAILTO",
    }


def test_a_run_that_holds_the_lock_is_no_fault(stage: Stage) -> None:
    stage.answer(then="exit 75")
    stage.rehearse()


def test_a_line_that_fails_is_refused_with_what_it_said(stage: Stage) -> None:
    stage.answer(then='echo "the disk is full" >&2; exit 1')
    with pytest.raises(CronError, match=r"exit code 1.*the disk is full"):
        stage.rehearse()


def test_a_command_that_is_not_there_is_refused(stage: Stage) -> None:
    stage.headgate = stage.folder / "absent"
    with pytest.raises(CronError, match="absent"):
        stage.rehearse()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HEADGATE_UPLINK_SHARE", "30%", "uplink.share is '30%' here"),
        ("HEADGATE_S3_BUCKET", "elsewhere", "HEADGATE_S3_BUCKET"),
    ],
)
def test_a_setting_of_this_shell_alone_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(CronError, match=f"only in this shell: .*{said}"):
        stage.rehearse()
    stage.variables = {variable: value}  # a variable of the tab is there for cron's runs as well
    stage.rehearse()


def test_a_flag_is_a_setting_of_this_call_alone(stage: Stage) -> None:
    with pytest.raises(CronError, match=r"only in this shell: .*from flag"):
        stage.rehearse(load(str(stage.config), {"uplink.share": "30%"}))


def test_credentials_of_this_shell_alone_are_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SHELLS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-shell")
    stage.answer("echo 'headgate: No AWS credentials were found.' >&2; exit 1")
    with pytest.raises(
        CronError, match=r": No AWS credentials.*only in this shell: .*AWS_ACCESS_KEY_ID"
    ) as refused:
        stage.rehearse()
    assert "a-secret-of-the-shell" not in str(refused.value)
    assert "SHELLS" not in str(refused.value)


def test_another_key_than_this_shell_s_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SHELLS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(CronError, match="would use another key"):
        stage.rehearse()


def test_another_endpoint_than_this_shell_s_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:19399")
    with pytest.raises(CronError, match=r"bucket is http://127.0.0.1:19399/pictures/ here"):
        stage.rehearse()


# -- what config check says ----------------------------------------------------------------------


@pytest.fixture
def cron_d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cron.d"
    folder.mkdir()
    monkeypatch.setattr(cron, "CRON_D", folder)
    return folder


def lines(settings: Settings, user: str | None) -> bytes:
    both = cron.lines_for(settings, user=user)
    return "".join(f"{crontab_line.make(line)}\n" for line in both).encode()


def test_a_machine_whose_cron_starts_nothing_is_said(
    tab: Path, cron_d: Path, tmp_path: Path
) -> None:
    tab.write_bytes(b"* * * * * /x\n")
    (said,) = cron.check(load(str(settings_file(tmp_path))))
    assert said.stopped and "cron starts no run" in said.sentence


@pytest.mark.parametrize("where", ["the user's tab", "a file of cron.d"])
def test_a_line_as_the_settings_want_it_is_no_fault(
    tab: Path, cron_d: Path, tmp_path: Path, where: str
) -> None:
    settings = load(str(settings_file(tmp_path)))
    if where == "the user's tab":
        tab.write_bytes(b"# mine\n" + lines(settings, None))
    else:
        (cron_d / "headgate").write_bytes(lines(settings, "pictures"))
        (cron_d / "not.read").write_bytes(lines(settings, "pictures"))
    assert cron.check(settings) == []
    changed = load(str(settings_file(tmp_path, '[uplink]\ninterval = "1h"\n')))
    (said,) = cron.check(changed)
    assert "every 5min, but uplink.interval is 1h" in said.sentence


def test_lines_in_two_places_are_said(tab: Path, cron_d: Path, tmp_path: Path) -> None:
    settings = load(str(settings_file(tmp_path)))
    tab.write_bytes(lines(settings, None))
    (cron_d / "headgate").write_bytes(lines(settings, "pictures"))
    (said,) = cron.check(settings)
    assert "runs start twice" in said.sentence
    assert str(cron_d / "headgate") in said.sentence


def test_without_cron_check_says_so(
    cron_d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cron.shutil, "which", lambda *_args, **_options: None)
    (said,) = cron.check(load(str(settings_file(tmp_path))))
    assert "no crontab command" in said.sentence
