"""Flask and Werkzeug's form parser, as its documentation shows it, and then the work that Headgate
does. ``gunicorn flask_upload:app``; the folder comes as BENCH_FOLDER.
"""

import os

from flask import Flask, request
from storing import Store

app = Flask(__name__)
store = Store(os.environ["BENCH_FOLDER"])


@app.post("/uploadImage")
def upload() -> tuple[dict[str, object], int]:
    return store.keep(request.files["image"].stream, request.form.get("device", "")), 201
