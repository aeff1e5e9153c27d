"""A process that several releases share, started as an endpoint starts it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from openai import OpenAI

from core.ready import parse_ready
from registry.release.package_signature import digest_of_package
from serving.owner import Ownership
from tests.support.running_engine import Served
from tests.support.waiting import SECONDS_AT_MOST

TOKEN = "a token of this test"  # noqa: S105
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class SharedProcess:
    """A process with the base of `served` that takes releases."""

    url: str

    @property
    def client(self) -> httpx.Client:
        """A client with the owner's token."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=SECONDS_AT_MOST,
        )

    def attach(self, package: Path, name: str) -> str:
        """Attach a package under that model name; its digest, which is the release's."""
        sha = digest_of_package(package)
        with self.client as client:
            response = client.put(f"/releases/{sha}", json=order(package, name))
        assert response.status_code == 200, response.text
        return sha

    def detach(self, sha: str) -> int:
        """The status of the answer."""
        with self.client as client:
            return client.delete(f"/releases/{sha}").status_code

    def openai(self, sha: str) -> OpenAI:
        """OpenAI's client for one release."""
        return OpenAI(
            base_url=f"{self.url}/releases/{sha}/v1",
            api_key=TOKEN,
            max_retries=0,
            timeout=SECONDS_AT_MOST,
            default_headers={"Connection": "close"},
        )


def order(package: Path, name: str) -> dict[str, str]:
    """The body that attaches a package."""
    return {"package": str(package), "model_name": name}


@contextmanager
def sharing(served: Served, options: Sequence[str] = ()) -> Iterator[SharedProcess]:
    """A process for releases that change the layers of the served package's adapter."""
    command = [sys.executable, "-m", "serving", "--shared", "--owned", "--port", "0"]
    command += ["--base-folder", str(served.base_folder)]
    command += ["--base-manifest", str(served.base_manifest)]
    command += ["--adapted-like", str(served.package), *options]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        owner = Ownership(token=TOKEN, owner=os.getpid(), seconds_without_owner=60)
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(owner.model_dump()) + "\n")
        stdin.flush()
        url = parse_ready(stdout.readline())
        assert url is not None
        yield SharedProcess(url)
    finally:
        process.kill()
        process.communicate()
