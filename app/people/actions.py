"""What people do on the page: the same functions as the commands call (``headgate.actions``).

Each is a form, which works without a script, and answers with a redirect to a page that says what
came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, request

from app.admission.admission import Gate
from app.http.request import caller, cursor
from app.http.routes import is_ref
from app.page import words
from app.page.render import Renderer
from app.people.forms import Forms
from app.people.sessions import Sessions, flash, private
from app.refusals import Refused
from headgate.actions import device_names, devices, holds, images, silences, uplink
from headgate.actions.errors import ActionRefused
from headgate.monitor.checks import images_word
from headgate.spool.site.audit import Actor
from headgate.spool.site.devices import DeviceTrouble, Token
from headgate.spool.site.gone import Stage
from headgate.spool.site.holds import Kind
from headgate.spool.site.users import Role
from headgate.spool.spool import Spool

THIS_MACHINE = "this machine"
"""Who acts where no log-in is needed, in the audit log."""
OVERLAPS = {"0s": timedelta(0), "1d": timedelta(days=1), "7d": timedelta(days=7)}
_IMAGE, _DEVICE, _MANAGED = "/images/{ref}/view", "/devices/{device}", "/operate/devices/{device}"
_AUDIT_PAGE = 100
_ALERTS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class _Asked:
    """An action that may be carried out: by whom, and what the form says."""

    by: Actor
    form: Mapping[str, str]

    def text(self, field: str) -> str:
        return " ".join(self.form.get(field, "").split())


def add_actions(
    routes: Blueprint, gate: Gate, spool: Spool, sessions: Sessions, forms: Forms
) -> None:
    """Add the routes of all actions: pages with forms, and what the forms ask for."""
    render = Renderer(spool.settings)

    def action(
        path: str, needed: Role, *, or_this_machine: bool = False, page: str = "/operate"
    ) -> Callable[[Callable[..., Response]], None]:
        """Add the address that a form posts to. Refused if the role is not enough, or the form is
        none that this browser got from here; a sentence on the next page if nothing was
        changed. ``page``: where that is, with the parts of the path in braces."""

        def add(do: Callable[..., Response]) -> None:
            def view(**parts: str) -> Response:
                asked = caller(request.environ)
                viewer = gate.require(asked, needed, or_this_machine=or_this_machine)
                form = forms.read()
                sessions.check_form(asked, form)
                by = Actor(viewer.user or THIS_MACHINE, sessions.address(asked))
                try:
                    return do(_Asked(by, form), **parts)
                except (ActionRefused, DeviceTrouble) as refused:
                    where = page.format_map(
                        {key: quote(part, safe="") for key, part in parts.items()}
                    )
                    return _see(where, _sentence(str(refused)), trouble=True)

            routes.add_url_rule(
                path, do.__name__, view, methods=["POST"], provide_automatic_options=False
            )

        return add

    def shown(template: str, **more: Any) -> Response:
        return render(f"people/{template}", spool.now(), **more)

    # -- images

    @action("/images/<ref>/retry", Role.OPERATOR, or_this_machine=True)
    def retry(asked: _Asked, ref: str) -> Response:
        # Only the holder of the drain lock moves files: the next run, or the one under way, does.
        if spool.catalog.get(ref) is None:
            raise Refused("no_receipt")
        images.request_retry(spool, asked.by, ref)
        return _see("/#aside", "The next run sends the image again.")

    @action("/operate/retry-all", Role.OPERATOR)
    def retry_all(asked: _Asked) -> Response:
        count = images.request_retry_all(spool, asked.by)
        said = (
            f"The next run sends {images_word(count)} again." if count else "Nothing is set aside."
        )
        return _see("/operate", said)

    @routes.get("/images/<ref>/discard")
    def discard_page(ref: str) -> Response:
        gate.require(caller(request.environ), Role.OPERATOR)
        held = spool.receipt(ref) if is_ref(ref) else None
        if held is None:
            raise Refused("no_receipt")
        return shown("discard.html", image=held)

    @action("/images/<ref>/discard", Role.OPERATOR)
    def discard(asked: _Asked, ref: str) -> Response:
        became = images.request_discard(spool, asked.by, ref, asked.text("reason"))
        return _see("/", f"{ref}: {became.sentence}.", trouble=not became.done)

    @routes.app_context_processor
    def given_up() -> dict[str, Any]:
        """The ids of images that the next run discards, for rows of images."""
        return {"given_up": lambda: {line.id for line in spool.site.gone.of(Stage.ASKED, 1000)}}

    @action("/images/<ref>/hold", Role.OPERATOR, page=_IMAGE)
    def hold(asked: _Asked, ref: str) -> Response:
        return held(asked, ref, Kind.IMAGE, words.path("images", ref, "view"))

    @action("/images/<ref>/release", Role.OPERATOR, page=_IMAGE)
    def release(asked: _Asked, ref: str) -> Response:
        return released(asked, ref, words.path("images", ref, "view"))

    @action("/operate/devices/<device>/hold", Role.OPERATOR, page=_DEVICE)
    def hold_device(asked: _Asked, device: str) -> Response:
        return held(asked, device, Kind.DEVICE, words.path("devices", device))

    @action("/operate/devices/<device>/release", Role.OPERATOR, page=_DEVICE)
    def release_device(asked: _Asked, device: str) -> Response:
        return released(asked, device, words.path("devices", device))

    def held(asked: _Asked, what: str, kind: Kind, where: str) -> Response:
        subject = holds.subject_of(spool, what)
        if subject is None or subject.kind is not kind:
            raise Refused("no_receipt" if kind is Kind.IMAGE else "no_device")
        made = holds.hold(spool, asked.by, what, asked.text("reason"))
        return _see(where, f"It is held: {made.words}.")

    def released(asked: _Asked, what: str, where: str) -> Response:
        holds.release(spool, asked.by, what)
        return _see(where, "It is released, and goes on in its order.")

    # -- the uplink

    @routes.get("/operate")
    def operate() -> Response:
        viewer = gate.require(caller(request.environ), Role.OPERATOR)
        alerts = [alert for alert in spool.site.alerts.all() if alert.bad or alert.told]
        enrolled = spool.site.devices.all(spool.now()) if _is_admin(viewer.role) else []
        return shown(
            "operate.html",
            cap=spool.uplink.cap(),
            alerts=alerts[:_ALERTS_SHOWN],
            silences=spool.site.alerts.silences(spool.now()),
            aside=spool.catalog.totals().set_aside.images,
            enrolled=[device for device in enrolled if device.revoked_at is None],
        )

    @action("/operate/pause", Role.OPERATOR)
    def pause(asked: _Asked) -> Response:
        limit = uplink.pause(spool, asked.by, asked.text("for"), asked.text("reason"))
        return _see("/operate", f"Uploads are paused {limit.words}.")

    @action("/operate/resume", Role.OPERATOR)
    def resume(asked: _Asked) -> Response:
        ended = uplink.resume(spool, asked.by)
        said = "Uploads go on with the next run." if ended else "Uploads were not paused."
        return _see("/operate", said)

    @action("/operate/limit", Role.OPERATOR)
    def limit(asked: _Asked) -> Response:
        share, lasts = asked.text("share"), asked.text("for")
        made = uplink.limit(spool, asked.by, share, lasts, asked.text("reason"))
        return _see("/operate", f"Images have {made.share} of the link {made.words}.")

    @action("/operate/limit-end", Role.OPERATOR)
    def end_limit(asked: _Asked) -> Response:
        uplink.end_limit(spool, asked.by)
        return _see("/operate", "The settings apply again.")

    # -- alerts

    @action("/operate/silence", Role.OPERATOR)
    def silence(asked: _Asked) -> Response:
        what = asked.text("what")
        made = silences.silence(spool, asked.by, what, asked.text("for"), asked.text("reason"))
        return _see("/operate", f"{what} is silenced until {words.clock(made.until)}.")

    @action("/operate/silence-end", Role.OPERATOR)
    def end_silence(asked: _Asked) -> Response:
        what = asked.text("what")
        silences.end_silence(spool, asked.by, what)
        return _see("/operate", f"{what} is no longer silenced.")

    # -- devices

    @action("/operate/devices/add", Role.ADMIN)
    def add_device(asked: _Asked) -> Response:
        tokens = devices.add(
            spool,
            asked.by,
            [asked.text("name")],
            urgent="urgent" in asked.form,
            may_drain="drain" in asked.form,
            may_forward="forward" in asked.form,
            digest="digest" in asked.form,
        )
        return token_page(tokens)

    @routes.get("/operate/devices/<device>")
    def device_page(device: str) -> Response:
        gate.require(caller(request.environ), Role.ADMIN)
        if not spool.knows_device(device):
            raise Refused("not_found")
        found = [one for one in spool.site.devices.all(spool.now()) if one.name == device]
        enrolled = found[0] if found and found[0].revoked_at is None else None
        label = spool.site.labels.of(device)
        return shown("device.html", name=device, device=enrolled, overlaps=OVERLAPS, label=label)

    @action("/operate/devices/<device>/label", Role.ADMIN, page=_MANAGED)
    def label_device(asked: _Asked, device: str) -> Response:
        text, group = asked.text("label"), asked.text("group")
        device_names.label(spool, asked.by, device, text=text, group=group)
        return _see(words.path("operate", "devices", device), "It is saved.")

    @action("/operate/devices/<device>/rename", Role.ADMIN, page=_MANAGED)
    def rename_device(asked: _Asked, device: str) -> Response:
        name = asked.text("name")
        device_names.change_name(spool, asked.by, device, name)
        said = f"{device} is {name} from now on. Its older images keep the name {device}."
        return _see(words.path("operate", "devices", name), said)

    @action("/operate/devices/<device>/rotate", Role.ADMIN)
    def rotate(asked: _Asked, device: str) -> Response:
        overlap = OVERLAPS.get(asked.text("overlap"))
        if overlap is None:
            raise ActionRefused("choose how long the old token stays valid", invalid=True)
        return token_page(devices.rotate(spool, asked.by, [device], overlap))

    @action("/operate/devices/<device>/revoke", Role.ADMIN)
    def revoke(asked: _Asked, device: str) -> Response:
        devices.revoke(spool, asked.by, [device])
        return _see("/operate", f"The tokens of {device} are revoked. Its images stay.")

    @action("/operate/devices/<device>/remove", Role.ADMIN)
    def remove(asked: _Asked, device: str) -> Response:
        device_names.remove(spool, asked.by, device)
        return _see("/operate", f"{device} is removed. Its images stay.")

    @action("/operate/devices/<device>/gaps", Role.OPERATOR)
    def close_gap(asked: _Asked, device: str) -> Response:
        first, last = asked.text("first"), asked.text("last")
        if not all(one.isascii() and one.isdigit() and len(one) < 19 for one in (first, last)):
            raise ActionRefused("name the first and the last number of the gap", invalid=True)
        closed = device_names.accept_gaps(spool, asked.by, device, int(first), int(last))
        where = words.path("devices", device)
        return _see(where, f"{images_word(closed)} will not come: the gap is closed.")

    def token_page(tokens: list[Token]) -> Response:
        """The one time that a token is shown: not after a redirect, which would have to keep it."""
        return shown("token.html", token=tokens[0])

    # -- the audit log

    @routes.get("/audit")
    def audit() -> Response:
        gate.require(caller(request.environ), Role.OPERATOR)
        who, before = request.args.get("who", "")[:64], cursor(request.args.get("before", ""))
        found = spool.site.audit.entries(who=who, limit=_AUDIT_PAGE + 1, cursor=before)
        more = found[_AUDIT_PAGE - 1].number if len(found) > _AUDIT_PAGE else None
        return shown("audit.html", entries=found[:_AUDIT_PAGE], who=who, more=more)


def _is_admin(role: Role | None) -> bool:
    return role is not None and role.may(Role.ADMIN)


def _see(address: str, sentence: str, *, trouble: bool = False) -> Response:
    flash(sentence, trouble=trouble)
    return private(Response(status=303, headers={"Location": address}))


def _sentence(text: str) -> str:
    """As a sentence of its own: the commands have theirs after a colon. A name at its beginning,
    such as cam-07, stays as it is."""
    first = text.partition(" ")[0]
    begin = text[:1].upper() + text[1:] if first.isalpha() else text
    return begin + ("" if text.endswith((".", "!", "?")) else ".")
