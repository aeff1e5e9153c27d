"""The git refs under which runs keep what they ran on: list, read, delete and bundle them."""

from pathlib import Path

from core.git import git
from core.project import FILE
from pipelines import layout

# Outside of refs/heads and refs/tags, so that `git branch` does not list them.
ALL = "refs/assay/"
RUNS = f"{ALL}runs/"


def run_refs(root: Path) -> dict[str, dict[str, str]]:
    """Give the refs of every run with the commits that they name, by run id."""
    refs_by_run: dict[str, dict[str, str]] = {}
    for ref, commit in _list_refs(root, RUNS):
        run_id = ref.removeprefix(RUNS).split("/")[0]
        refs_by_run.setdefault(run_id, {})[ref] = commit
    return refs_by_run


def _list_refs(root: Path, *patterns: str) -> list[tuple[str, str]]:
    listing = git(root, "for-each-ref", "--format=%(refname) %(objectname)", *patterns)
    refs: list[tuple[str, str]] = []
    for line in listing.splitlines():
        ref, commit = line.split(" ")
        refs.append((ref, commit))
    return refs


def may_be_of_another_project(root: Path, refs: dict[str, str]) -> bool:
    """Whether a run with these refs may be of another project of the same repository.

    A run commits its project's marker, whether or not git tracks it, and at its end the code of
    its stages, which nothing else commits.
    """
    inside = git(root, "rev-parse", "--show-prefix").removesuffix("\n")
    own_code = f"{inside}{layout.CODE}/"
    names: set[str] = set()
    for commit in set(refs.values()):
        listing = git(root, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
        names.update(listing.split("\0"))
    has_own_code = any(name.startswith(own_code) for name in names)
    if has_own_code:
        return False
    return bool(_projects_in(names) - {inside})


def _projects_in(names: set[str]) -> set[str]:
    """The folders of a commit that are projects, each with a slash at its end."""
    folders = {name.removesuffix(FILE) for name in names if name.endswith(FILE)}
    # `assay.toml` lies among the templates of Assay itself, too.
    return {
        folder
        for folder in folders
        if {f"{folder}{FILE}", f"{folder}{layout.DVC_STAGES}"} <= names
    }


def delete_refs(root: Path, refs: dict[str, str]) -> None:
    """Delete refs that still name those commits, all or none."""
    commands = "".join(f"delete {ref} {commit}\n" for ref, commit in refs.items())
    git(
        root,
        "update-ref",
        "--stdin",
        stdin=commands,
    )


def other_tips(root: Path) -> set[str]:
    """Give the commits of everything else that has a name.

    These are branches, tags, stashes, and what is checked out in any worktree.
    """
    commits = {commit for ref, commit in _list_refs(root) if not ref.startswith(RUNS)}
    worktrees = git(root, "worktree", "list", "--porcelain")
    for line in worktrees.splitlines():
        head = line.removeprefix("HEAD ")
        # A worktree without a commit has a head of zeros.
        if line.startswith("HEAD ") and head.strip("0"):
            commits.add(head)
    return commits


def dvc_records(root: Path, commits: set[str]) -> dict[str, str]:
    """Give what DVC wrote into those commits: `dvc.lock` and every `.dvc` file.

    Each text comes once, by a name for messages (`COMMIT:FILE`).
    """
    names_by_blob: dict[str, str] = {}
    for commit in sorted(commits):
        for line in git(root, "ls-tree", "-r", "-z", commit).split("\0"):
            # A line is `MODE TYPE BLOB<tab>NAME`.
            description, _, name = line.partition("\t")
            if is_dvc_record(name):
                blob = description.split(" ")[2]
                names_by_blob.setdefault(blob, f"{commit[:12]}:{name}")
    return {
        name: git(root, "cat-file", "blob", blob)
        for blob, name in names_by_blob.items()
    }


def dvc_records_in(root: Path) -> dict[str, str]:
    """Give the same of the working tree, by file name."""
    listing = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    # Untracked files count, since a stage that runs by hand may not be committed yet.
    records: dict[str, str] = {}
    for name in listing.split("\0"):
        path = root / name
        if is_dvc_record(name) and path.is_file():
            records[name] = path.read_text(encoding="utf-8")
    return records


def bundle_refs(root: Path, into: Path) -> bool:
    """Write every ref of Assay's, with its history, into one file; False where there is no ref."""
    # git refuses to make an empty bundle.
    if not git(root, "for-each-ref", "--count=1", ALL):
        return False
    git(root, "bundle", "create", "--quiet", str(into), f"--glob={ALL}*")
    return True


def fetch_refs(root: Path, bundle: Path) -> None:
    """Copy the refs of a bundle into this project."""
    # The plus overwrites refs of the same name: the bundle is what is restored.
    every_ref = f"+{ALL}*:{ALL}*"
    git(root, "fetch", "--quiet", "--no-write-fetch-head", str(bundle), every_ref)


def is_dvc_record(name: str) -> bool:
    """Tell whether DVC keeps digests of files in a file of that name."""
    is_at_top = name == "dvc.lock"
    return is_at_top or name.endswith((".dvc", "/dvc.lock"))
