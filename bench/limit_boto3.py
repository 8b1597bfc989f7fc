"""boto3 with max_bandwidth, as its own peer program: many files through one transfer manager.

``python limit_boto3.py URL FOLDER BYTES_A_SECOND [CA]``, run with the peers' Python.
"""

from __future__ import annotations

import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager


def main() -> None:
    """Upload every file of the folder."""
    url, folder, rate = sys.argv[1:4]
    ca = sys.argv[4] if len(sys.argv) > 4 else None
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", verify=ca)
    config = TransferConfig(max_bandwidth=int(rate), multipart_threshold=64 << 20)
    with create_transfer_manager(client, config) as transfers:
        for name in sorted(os.listdir(folder)):
            transfers.upload(os.path.join(folder, name), "bench", name)


if __name__ == "__main__":
    main()
