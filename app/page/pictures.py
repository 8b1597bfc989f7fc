"""The pages of one device and of one image, and the pictures themselves."""

from __future__ import annotations

from datetime import timedelta

from flask import Flask, Response, request

from app.admission.admission import Gate
from app.http.request import caller
from app.http.routes import for_a_person, is_ref
from app.page import receipt_words, timeline, wall, words
from app.page.chart import Range
from app.page.originals import Elsewhere, Originals
from app.page.placeholder import WIDTH_OF_NOT_YET, placeholder
from app.page.render import Renderer
from app.page.thumbnails import NoThumbnail, Thumbnails
from app.refusals import Refused
from app.responses import Answer
from headgate.monitor import device_history, devices, why
from headgate.monitor.devices import DeviceFacts
from headgate.spool.image.image import Receipt
from headgate.spool.query import After, Query
from headgate.spool.spool import Spool

A_PAGE = 48
DAYS = 7
GAPS_SHOWN = 50
_SHOWN_BY_BROWSERS = frozenset(
    {"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/avif"}
)


def add_pictures(app: Flask, gate: Gate, spool: Spool, render: Renderer) -> None:
    """``/devices/<device>``, ``/images/<ref>/view``, ``.../original`` and ``.../thumbnail``."""
    thumbnails = Thumbnails(spool, lambda: gate.admission(spool.settings.receiver.max_image))
    originals = Originals(spool)

    def receipt_of(ref: str) -> Receipt:
        gate.identify_viewer(caller(request.environ))
        held = spool.receipt(ref) if is_ref(ref) else None
        if held is None:
            raise Refused("no_receipt")
        return held

    @app.get("/images/<ref>/thumbnail")
    def thumbnail(ref: str) -> Answer:
        held = receipt_of(ref)
        try:
            response = Answer(thumbnails.of(held), 200, "image/jpeg")
            response.headers["Cache-Control"] = "private, max-age=3600"
        except NoThumbnail as none:
            if "placeholder" not in request.args:
                raise none.refused from None
            response = Answer(placeholder(none.why.value), 200, "image/svg+xml")
            response.headers["Cache-Control"] = "private, max-age=60"
        except Refused as busy:
            if "placeholder" not in request.args:
                raise
            drawn = placeholder("not made yet", WIDTH_OF_NOT_YET)
            response = Answer(drawn, busy.refusal.status, "image/svg+xml")
            response.headers["Cache-Control"] = "no-store"
            response.headers["Retry-After"] = str(busy.retry_after)
        response.headers["Content-Security-Policy"] = "default-src 'none'"
        return response

    @app.get("/images/<ref>/original")
    def original(ref: str) -> Response | Answer:
        held = receipt_of(ref)
        try:
            return originals.answer(held, with_body=request.method != "HEAD")
        except Elsewhere as elsewhere:
            if not for_a_person():
                raise Refused("no_original", reason=str(elsewhere)) from None
            return view_of(held, str(elsewhere), 404)

    @app.get("/images/<ref>/view")
    def view(ref: str) -> Response:
        return view_of(receipt_of(ref))

    def view_of(held: Receipt, notice: str = "", status: int = 200) -> Response:
        now = spool.now()
        hold = spool.site.holds.of(held.id, held.device)
        reason = why.of_image(spool, held.id)
        beside = Query(device=held.device, after=After(held.id), limit=1)
        older = spool.find(beside).receipts
        newer = spool.find(
            Query(device=held.device, after=After(held.id), limit=1, oldest_first=True)
        ).receipts
        return render(
            "image.html",
            now,
            status=status,
            image=held,
            notice=notice,
            said=receipt_words.in_words(held, "" if hold is None else hold.words),
            why=() if reason is None else tuple(why.outlook(reason, now)),
            hold=hold,
            meta=spool.metadata_of(held),
            is_shown_large=held.local and held.media_type in _SHOWN_BY_BROWSERS,
            older=older[0] if older else None,
            newer=newer[0] if newer else None,
            asked_again=any(one.image == held.id for one in spool.site.requests()),
        )

    @app.get("/devices/<device>")
    def device(device: str) -> Response:
        gate.identify_viewer(caller(request.environ))
        now = spool.now()
        facts = _facts(spool, device)
        hold = spool.site.holds.of("", device)
        reason = why.of_device(spool, device)
        range_ = Range.named(request.args.get("range", ""))
        begins = range_.begins(now)
        last_before = spool.find(Query(device=device, until=begins, limit=1)).receipts
        minutes = {one.received_at: 1 for one in last_before}
        minutes |= device_history.minutes(spool, device, begins)
        gaps = device_history.gaps_seen(spool, device, begins)
        after, before = request.args.get("after", ""), request.args.get("before", "")
        page = spool.find(
            Query(
                device=device,
                limit=A_PAGE,
                after=After(before or after) if is_ref(before or after) else None,
                oldest_first=bool(before),
            )
        )
        receipts = page.receipts[::-1] if before else page.receipts
        enrolled = next((one for one in spool.site.devices.all(now) if one.name == device), None)
        kept = {"range": range_.word if range_ is not Range.DAY else ""}
        return render(
            "device.html",
            now,
            camera=wall.camera(
                facts,
                [one for one in devices.alerts(spool.site) if one.subject == device],
                spool.site.labels.of(device),
                now,
                "" if hold is None else hold.words,
            ),
            hold=hold,
            why=reason if reason is not None and reason.oldest is not None else None,
            sentences=why.SENTENCES,
            enrolled=enrolled,
            tokens=spool.site.devices.tokens_of(device, now),
            range=range_,
            ranges=tuple(Range),
            line=timeline.timeline(minutes, gaps, now, range_, facts.quiet_seconds),
            gaps=gaps,
            open_gaps=spool.catalog.gaps(device, GAPS_SHOWN),
            chart=(timeline.WIDTH, timeline.HEIGHT),
            days=device_history.days(spool, device, now, DAYS),
            receipts=_with_silences(receipts, facts.quiet_seconds),
            older=receipts[-1].id if receipts and (page.more or before) else "",
            newer=receipts[0].id if receipts and (after or (before and page.more)) else "",
            here=lambda **changes: words.address(words.path("devices", device), kept, **changes),
            clock_words=wall.clock_words(facts.clock_offset_seconds),
        )


def _facts(spool: Spool, device: str) -> DeviceFacts:
    """What is known of a device; Refused if it was never seen nor enrolled."""
    quiet = spool.settings.alerts.device_silent
    for one in devices.devices(spool.catalog, spool.site, spool.now(), quiet):
        if one.device == device:
            return one
    seen = spool.catalog.arrivals_of(device)
    if seen is not None:
        return DeviceFacts(device, enrolled=False, last_at=seen.last_at, last_image=seen.last_image,
                           images=seen.images, bytes=seen.bytes, warned=seen.warned,
                           last_warning=seen.last_warning, missed=False)  # fmt: skip
    if spool.site.devices.is_named(device) or spool.find(Query(device=device, limit=1)).receipts:
        return DeviceFacts(device, enrolled=False, missed=False)
    raise Refused("no_device")


def _with_silences(
    receipts: tuple[Receipt, ...], quiet_seconds: float
) -> list[tuple[Receipt, timedelta | None]]:
    """Each image with the silence before it, if there was one; newest first."""
    found: list[tuple[Receipt, timedelta | None]] = []
    for image, older in zip(receipts, (*receipts[1:], None), strict=True):
        pause = image.received_at - older.received_at if older else timedelta(0)
        silent = quiet_seconds > 0 and pause.total_seconds() > quiet_seconds
        found.append((image, pause if silent else None))
    return found
