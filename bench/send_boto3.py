"""Plain boto3, as many write it: eight threads, put_object with a checksum, then unlink."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore.config import Config

_THREADS = 8


def main() -> None:
    """``send_boto3.py FOLDER URL``"""
    folder, url = Path(sys.argv[1]), sys.argv[2]
    client = boto3.client("s3", endpoint_url=url, config=Config(max_pool_connections=_THREADS))

    def send(path: Path) -> None:
        with open(path, "rb") as body:
            client.put_object(
                Bucket="bench",
                Key=path.name,
                Body=body,
                ChecksumAlgorithm="SHA256",
                IfNoneMatch="*",
            )
        path.unlink()

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(send, folder.rglob("*.jpg")):
            pass


if __name__ == "__main__":
    main()
