"""`python -m serving --shared`: several releases of one base in one process, each with its own."""

import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from registry.release.known_answers import KnownAnswer, read_known_answers
from registry.release.package_signature import digest_of_package
from tests.support.processes import refusal_of
from tests.support.running_engine import Served
from tests.support.shared_process import SharedProcess, order, sharing
from tests.support.tiny import make_tiny_base, make_tiny_package, tiny_manifest

NAMES = ("first", "second", "third")


@dataclass(frozen=True)
class Packages:
    """Packages of adapters on one base, by the model name that they answer under."""

    folders: dict[str, Path]

    def known(self, name: str) -> tuple[KnownAnswer, ...]:
        return read_known_answers(self.folders[name] / "known_answers.jsonl")


@pytest.fixture(scope="module")
def packages(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    root = tmp_path_factory.mktemp("packages")
    folders = {}
    for seed, name in enumerate(NAMES, 11):
        make_tiny_package(served.base_folder, served.base, root / name, seed)
        folders[name] = root / name
    return Packages(folders)


@pytest.fixture(scope="module")
def process(served: Served) -> Iterator[SharedProcess]:
    with sharing(served) as process:
        yield process


@pytest.fixture
def attached(process: SharedProcess, packages: Packages) -> Iterator[dict[str, str]]:
    """Digests of the packages that are attached, by their name."""
    shas = {}
    for name, folder in packages.folders.items():
        shas[name] = process.attach(folder, name)
    yield shas
    for sha in shas.values():
        process.detach(sha)


def ask(process: SharedProcess, sha: str, model: str, known: KnownAnswer) -> str:
    answer = process.openai(sha).chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": known.messages[0].content}],
        max_tokens=known.max_tokens,
    )
    return answer.choices[0].message.content or ""


@pytest.mark.ci
def test_several_adapters_and_the_base_answer_at_once_each_with_its_own(
    process: SharedProcess, packages: Packages, attached: dict[str, str]
) -> None:
    asked = [
        (name, model, known)
        for known in packages.known("first")
        for name in NAMES
        for model in (name, "tiny")
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        given = list(
            pool.map(
                lambda each: ask(process, attached[each[0]], each[1], each[2]), asked
            )
        )
    answers = dict(
        zip(
            [(name, model, known.messages) for name, model, known in asked],
            given,
            strict=True,
        )
    )
    for name in NAMES:
        for known in packages.known(name):
            assert answers[name, name, known.messages] == known.text
    for known in packages.known("first"):
        of_base = {answers[name, "tiny", known.messages] for name in NAMES}
        assert len(of_base) == 1
        assert of_base.isdisjoint(answers[name, name, known.messages] for name in NAMES)


@pytest.mark.ci
def test_a_release_says_what_answers_in_it(
    process: SharedProcess, packages: Packages, attached: dict[str, str]
) -> None:
    with process.client as client:
        listed = client.get(f"/releases/{attached['second']}/v1/models").json()["data"]
        assert [card["id"] for card in listed] == ["second", "tiny"]
        again = client.put(
            f"/releases/{attached['second']}",
            json=order(packages.folders["second"], "other"),
        )
        assert again.status_code == 409
        assert again.json()["error"]["code"] == "release_exists"
        assert client.get(f"/releases/{attached['second']}/readyz").status_code == 200


@pytest.mark.ci
def test_nobody_without_the_token_is_answered(
    process: SharedProcess, packages: Packages, attached: dict[str, str]
) -> None:
    path = f"{process.url}/releases/{attached['first']}"
    body = order(packages.folders["first"], "first")
    assert httpx.put(path, json=body).status_code == 401
    assert httpx.delete(path).status_code == 401
    assert httpx.get(f"{path}/readyz").status_code == 401
    assert httpx.get(f"{process.url}/readyz").status_code == 401


@pytest.mark.ci
def test_a_release_that_is_detached_is_not_found(
    process: SharedProcess, packages: Packages
) -> None:
    sha = process.attach(packages.folders["first"], "first")
    assert process.detach(sha) == 204
    assert process.detach(sha) == 404
    with process.client as client:
        for path in ("readyz", "v1/models"):
            assert client.get(f"/releases/{sha}/{path}").status_code == 404
        assert client.get("/readyz").status_code == 200
    again = process.attach(packages.folders["first"], "first")
    assert again == sha
    for known in packages.known("first"):
        assert ask(process, sha, "first", known) == known.text
    process.detach(sha)


def refused(
    process: SharedProcess, sha: str, package: Path, *, for_now: bool = False
) -> str:
    """Why a package is not attached, of which nothing is there afterwards.

    `for_now` where other bytes than the ledger's lie there, which may come back.
    """
    with process.client as client:
        response = client.put(f"/releases/{sha}", json=order(package, "it"))
        assert client.get(f"/releases/{sha}/readyz").status_code == 404
    error = response.json()["error"]
    said = response.status_code, error["code"]
    for_good = (409, "release_not_shared")
    assert said == ((503, "package_changed") if for_now else for_good)
    return str(error["message"])


@pytest.mark.ci
def test_a_release_that_cannot_share_is_refused_in_a_sentence(
    process: SharedProcess, served: Served, packages: Packages, tmp_path: Path
) -> None:
    other_folder = make_tiny_base(tmp_path / "base", head_size=16)
    other = tiny_manifest(other_folder, tmp_path / "home")
    make_tiny_package(other_folder, other, tmp_path / "elsewhere")
    sha = digest_of_package(tmp_path / "elsewhere")
    assert "was trained on" in refused(process, sha, tmp_path / "elsewhere")
    changed = tmp_path / "changed"
    shutil.copytree(packages.folders["first"], changed)
    sha = digest_of_package(changed)
    (changed / "chat_template.jinja").write_text("{{ 1 }}", encoding="utf-8")
    said = refused(process, sha, changed, for_now=True)
    assert "chat_template.jinja" in said
    folder = packages.folders["second"]
    assert "is not package" in refused(process, "0" * 64, folder, for_now=True)
    assert "There is no package" in refused(process, "1" * 64, tmp_path / "none")
    sha = digest_of_package(folder)
    with process.client as client:
        named_like_the_base = order(folder, "tiny")
        response = client.put(f"/releases/{sha}", json=named_like_the_base)
        assert response.status_code == 409
        assert client.put(f"/releases/{sha}", json={"x": 1}).status_code == 400


@pytest.mark.ci
def test_what_is_shared_needs_a_package_that_says_which_layers(served: Served) -> None:
    command = [sys.executable, "-m", "serving", "--shared", "--port", "0"]
    command += ["--base-folder", str(served.base_folder)]
    command += ["--base-manifest", str(served.base_manifest)]
    assert "--shared needs --adapted-like" in refusal_of(command)
