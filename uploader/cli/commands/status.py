"""``headgate status``: an overview in ten lines."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import click

from headgate.host.exit_codes import Exit
from headgate.monitor import checks, receiver, wording
from headgate.monitor.collect import snapshot
from headgate.monitor.documents import image_fields, status_fields
from headgate.monitor.snapshot import Snapshot, TriggerFacts
from headgate.monitor.summary import Place, verdict
from headgate.settings.units import human_duration, human_size
from headgate.spool.image.image import Count
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text, styled
from uploader.s3.dialect import recall

_WATCH_SECONDS = 2.0


@click.command(
    epilog=ending(
        "headgate status",
        "headgate status --json | jq .waiting.images",
        meaning={Exit.ERROR: "images are lost or unaccounted for, or the spool cannot be read"},
    )
)
@click.option("--watch", is_flag=True, help="Print it again every two seconds, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, watch: bool, as_json: bool) -> None:
    """Print an overview. Exit code 1 if images are lost or unaccounted for."""
    if watch and as_json:
        fail("use --watch or --json, not both", Exit.USAGE)
    with contextlib.suppress(KeyboardInterrupt):
        while watch:
            click.clear()
            _show(context, as_json=False)
            time.sleep(_WATCH_SECONDS)
        if not _show(context, as_json):
            raise SystemExit(Exit.ERROR)


def _show(context: Context, as_json: bool) -> bool:
    """Whether no image is lost or unaccounted for."""
    with context.spool() as spool:
        facts = snapshot(spool)
        facts = replace(facts, admission=receiver.ask(spool).admission(facts.admission))
        warnings = [str(risk)] if (risk := spool.risk()) else []
        said = verdict(facts, Place(receiver.open_to_all(spool), risk="".join(warnings)))
        dialect = recall(spool.site, spool.settings)
        safe_off = spool.is_safe_off()
    if as_json:
        known = status_fields(facts, said, context.settings)
        for word, receipts in (("latest", facts.latest), ("aside", facts.aside)):
            known[word] = [image_fields(receipt) for receipt in receipts]
        print_json(known | {"warnings": warnings, "server": dialect and dialect.as_json()})
    else:
        settings = context.settings
        for line in _lines(facts):
            print_text(line)
        if safe_off:
            text = "closed     since headgate safe-off; headgate safe-on opens it again"
            print_text(styled(text, fg="yellow"))
        place = "sent to" if settings.destination.kind == "http" else "bucket"
        print_text(f"spool      {settings.spool.path} ({human_size(facts.free_bytes)} free)")
        print_text(f"{place:<10} {settings.goes_to or '(none is set)'}{_proof(facts)}")
        for warning in warnings:
            print_text(styled(f"warning    {warning}", fg="yellow"))
    return not (facts.unaccounted or facts.lost.images)


def _proof(facts: Snapshot) -> str:
    return f", {facts.confirmation.words}" if facts.confirmation is not None else ""


def _count(count: Count) -> str:
    return checks.images(count)


def _lines(facts: Snapshot) -> list[str]:
    oldest = ""
    if facts.oldest_waiting_at is not None:
        age = (facts.at - facts.oldest_waiting_at).total_seconds()
        oldest = f", the oldest for {human_duration(max(0, age))}"
    budget = facts.budget
    lines = [
        f"received   {_count(facts.received)}",
        f"waiting    {_count(facts.waiting)}{oldest}",
        f"sending    {_count(facts.sending)}",
        f"uploaded   {_count(facts.uploaded_local + facts.uploaded_pruned)}, "
        f"{facts.uploaded_local.images} of them still here",
        styled(
            f"set aside  {_count(facts.set_aside)}", fg="yellow" if facts.set_aside.images else None
        ),
    ]
    if facts.held.images:
        lines.append(f"held       {_count(facts.held)}: headgate hold says by whom")
    if facts.discarded.images:
        lines.append(f"discarded  {_count(facts.discarded)}")
    if facts.purged.images:
        lines.append(f"purged     {_count(facts.purged)}")
    if facts.lost.images:
        lost = f"LOST       {_count(facts.lost)}: headgate verify says which"
        lines.append(styled(lost, fg="red", bold=True))
    if facts.unaccounted:
        missing = (
            f"MISSING    unaccounted for: {checks.images_word(facts.unaccounted)}; headgate verify"
        )
        lines.append(styled(missing, fg="red", bold=True))
    lines.append(
        f"budget     {human_size(budget.used)} of {human_size(budget.budget)} used in the last "
        f"{human_duration(budget.interval)}; at most {human_size(budget.rate)}/s"
        f" ({budget.why})"
    )
    if lease := budget.lease:
        lent = f"{human_size(lease.rate - lease.floor)}/s are lent to this gateway"
        state = f"not shared: {lease.trouble}" if lease.trouble else lent
        lines.append(f"uplink     {human_size(lease.floor)}/s are its own; {state}")
    if budget.timetable and budget.timetable.worth_saying:
        lines.append(f"timetable  {budget.timetable.words}")
    if budget.day_allowance:
        lines.append(
            f"today      {human_size(budget.day_used)} of {human_size(budget.day_allowance)} have "
            f"left{', nothing more until midnight' if budget.day_spent else ''}"
            f"{budget.site_day.words if budget.site_day else ''}"
        )
    if budget.limit_words:
        word = "paused" if budget.paused else "limit"
        lines.append(f"{word:<10} {budget.limit_words}")
    if not facts.admission.accepting:
        lines.append(styled(f"REFUSING   {facts.admission.sentence}", fg="red", bold=True))
    if facts.clock_behind:
        lines.append(styled(f"CLOCK      {facts.clock_behind}", fg="red", bold=True))
    for one in facts.refused:
        lines.append(f"refused    {checks.refused(one)}")
    if backlog := wording.backlog(facts):
        lines.append(f"backlog    {backlog}")
    if disk := wording.disk(facts):
        lines.append(f"disk       {disk}")
    if facts.runs:
        run = facts.runs[0]
        ended = "still running" if run.ended_at is None else f"ended {run.ended_at:%H:%M:%S} UTC"
        lines.append(
            styled(
                f"last run   {run.outcome or 'running'}, {checks.images_word(run.images)}, {ended}"
                + (f": {run.message}" if run.message else ""),
                fg="red" if run.ended_at and not run.success else None,
            )
        )
    else:
        lines.append("last run   none yet")
    proof = facts.proof
    if proof.fruitless_runs and facts.waiting.images + facts.sending.images:
        since = human_duration(proof.failing_seconds(facts.at))
        text = f"confirmed  NOTHING for {since}, though it was tried: headgate config check"
        lines.append(styled(text, fg="red", bold=True))
    elif proof.confirmed_at is not None:
        ago = human_duration(max(0.0, (facts.at - proof.confirmed_at).total_seconds()))
        lines.append(f"confirmed  the last image {ago} ago")
    return [*lines, *(_trigger(one, facts) for one in facts.triggers)]


def _trigger(one: TriggerFacts, facts: Snapshot) -> str:
    return f"trigger    {wording.trigger(one, facts.at)}"
