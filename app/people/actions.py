"""What people do on the page: the same functions as the commands call (``headgate.actions``)."""

from __future__ import annotations

from flask import Blueprint, Response, request

from app.admission.admission import Gate
from app.http.request import caller
from app.people.forms import Forms
from app.people.sessions import Sessions, flash, private
from app.refusals import Refused
from headgate.actions import images
from headgate.spool.site.audit import Actor
from headgate.spool.site.users import Role
from headgate.spool.spool import Spool

THIS_MACHINE = "this machine"
"""Who acts where no log-in is needed, in the audit log."""


def add_actions(
    routes: Blueprint, gate: Gate, spool: Spool, sessions: Sessions, forms: Forms
) -> None:
    """Their routes."""

    def act(needed: Role, *, or_this_machine: bool = False) -> tuple[Actor, dict[str, str]]:
        """Who asks for it, and the form; Refused if the role is not enough, or the form is none
        that this browser got from here."""
        asked = caller(request.environ)
        viewer = gate.require(asked, needed, or_this_machine=or_this_machine)
        form = dict(forms.read())
        sessions.check_form(asked, form)
        return Actor(viewer.user or THIS_MACHINE, sessions.address(asked)), form

    @routes.post("/images/<ref>/retry", provide_automatic_options=False)
    def retry(ref: str) -> Response:
        by, _ = act(Role.OPERATOR, or_this_machine=True)
        # Only the holder of the drain lock moves files: the next run, or the one under way, does.
        if spool.catalog.get(ref) is None:
            raise Refused("no_receipt")
        images.request_retry(spool, by, ref)
        return see("/#aside")

    def see(address: str, sentence: str = "", *, trouble: bool = False) -> Response:
        if sentence:
            flash(sentence, trouble=trouble)
        return private(Response(status=303, headers={"Location": address}))
