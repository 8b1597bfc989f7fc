"""FastAPI and UploadFile, as its documentation shows it, and then the work that Headgate does.

``uvicorn fastapi_upload:app``; the folder comes as BENCH_FOLDER. Without BENCH_FLUSH nothing is
flushed.
"""

import os
from typing import Annotated

from fastapi import FastAPI, Form, UploadFile
from storing import Store

app = FastAPI()
store = Store(os.environ["BENCH_FOLDER"], durable="BENCH_FLUSH" in os.environ)


@app.post("/uploadImage", status_code=201)
def upload(image: UploadFile, device: Annotated[str, Form()] = "") -> dict[str, object]:
    return store.keep(image.file, device)
