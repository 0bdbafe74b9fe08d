"""A downloader for pooch that goes on where a broken download stopped.

pooch brings the checksum, the retries and the temporary name, but begins each attempt anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pooch
import requests
from tqdm import tqdm


def resume(url: str, output_file: str, manager: pooch.Pooch) -> None:
    """Bring ``url`` to ``output_file``, by way of a ``.part`` file that a broken download leaves.

    A server that cannot send the rest only (HTTP Range) sends all of it again. Whether the pieces
    fit together shows in the checksum, which pooch looks at next; by then the ``.part`` file is
    gone, so an attempt after a wrong one begins anew.

    Raises:
        requests.RequestException: no connection, an error from the server, or it broke off.
    """
    part = Path(manager.path) / (url.rpartition("/")[2] + ".part")
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # bytes as they are on disk, or no range fits
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=30) as reply:
        # 416: there is nothing beyond what we have, so all came before the last stop.
        if not (have and reply.status_code == 416):
            reply.raise_for_status()
            resumed = reply.status_code == 206
            have = have if resumed else 0
            total = have + int(reply.headers.get("Content-Length", 0))
            with (
                part.open("ab" if resumed else "wb") as file,
                # disable=None: a bar on a terminal, nothing in a log file
                tqdm(total=total, initial=have, unit="B", unit_scale=True, disable=None) as bar,
            ):
                for chunk in reply.iter_content(1 << 16):
                    have += file.write(chunk)
                    bar.update(len(chunk))
            if have < total:
                raise requests.ConnectionError(f"{have} of {total} bytes came")
    os.replace(part, output_file)
