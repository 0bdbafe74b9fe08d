"""Download CIFAR-10 and check it, say before a sweep or for a machine without a network.

python scripts/fetch_cifar10.py [--root FOLDER]
"""

from __future__ import annotations

import argparse
import sys

from convexp.datasets import fetch_cifar10


def main() -> int:
    """Print the folder that holds the data set; 1 if it could not be had."""
    parser = argparse.ArgumentParser(description="Download CIFAR-10 (170 MB) and check it.")
    parser.add_argument(
        "--root",
        help="folder to hold cifar-10-batches-py; "
        "default: $CONVEXP_DATA, or else the user's cache folder",
    )
    parser.add_argument(
        "--offline", action="store_true", help="look only at what is there; download nothing"
    )
    arguments = parser.parse_args()
    try:
        print(fetch_cifar10(arguments.root, download=not arguments.offline))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
