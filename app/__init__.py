"""The receiver: a synchronous Flask application that makes images durable before it answers.

Bytes go socket -> parser -> a file in the spool's tmp/, hashed on the way. Knows nothing of S3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.upload.stalled import Stalls
    from headgate.spool.spool import Spool


def create_app(
    spool: Spool,
    stalls: Stalls | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Flask:
    """The application over an open spool; ``stalls`` is watched by the server that runs it, which
    also says when it is ``stopping``."""
    # Imported by who serves: the process that supervises needs none of it, and stays small.
    from flask import Blueprint, Flask

    from app.admission.admission import Gate
    from app.http.error_responses import Troubles
    from app.http.fast_path import Addresses, Front
    from app.http.jobs import add_jobs
    from app.http.metrics import Metrics
    from app.http.routes import add_routes
    from app.page.page import add_pages
    from app.people.actions import add_actions
    from app.people.forms import Forms
    from app.people.log_in import add_log_in
    from app.people.sessions import Sessions
    from app.upload.accept import PictureTaker
    from app.upload.stalled import Stalls
    from app.upload.upload import Uploads

    app = Flask("app", static_folder="static", template_folder="templates")
    app.url_map.merge_slashes = False
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    stalls = stalls if stalls is not None else Stalls()
    sessions = Sessions(spool)
    sessions.attach(app, spool.files.state)
    forms = Forms(stalls)
    gate = Gate(spool, stopping, person=sessions.person)
    taker = PictureTaker(spool, gate)
    uploads = Uploads(spool, gate, taker, stalls)
    receiver = spool.settings.receiver
    metrics = Metrics(spool, gate)
    troubles = Troubles(metrics)
    add_routes(app, gate, spool, metrics, troubles)
    add_pages(app, gate, spool)
    people = Blueprint("people", "app.people")
    add_actions(people, gate, spool, sessions, forms)
    add_log_in(people, spool, sessions, forms)
    app.register_blueprint(people)
    add_jobs(app, gate, spool, stalls)
    app.wsgi_app = Front(  # type: ignore[method-assign]
        app.wsgi_app,
        uploads.receive,
        uploads.drain,
        Addresses(receiver.paths, strict=receiver.strict),
        spool.note_refused,
        spool.cpu_turns,
        metrics,
        troubles,
    )
    return app
