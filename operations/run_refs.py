"""The refs under which runs keep what they ran on: which there are, what they hold, and how they travel."""

from pathlib import Path

from core.git import git

ALL = "refs/assay/"
RUNS = f"{ALL}runs/"


def run_refs(root: Path) -> dict[str, dict[str, str]]:
    """Every run's refs with the commits that they name, by run id."""
    found: dict[str, dict[str, str]] = {}
    for line in git(
        root, "for-each-ref", "--format=%(refname) %(objectname)", RUNS
    ).splitlines():
        ref, commit = line.split(" ")
        found.setdefault(ref.removeprefix(RUNS).split("/")[0], {})[ref] = commit
    return found


def delete_refs(root: Path, refs: dict[str, str]) -> None:
    """Delete refs that still name those commits, all or none."""
    git(
        root,
        "update-ref",
        "--stdin",
        stdin="".join(f"delete {ref} {commit}\n" for ref, commit in refs.items()),
    )


def other_tips(root: Path) -> set[str]:
    """The commits of everything else that has a name: branches, tags, stashes, and what is checked out anywhere."""
    refs = (
        line.split(" ")
        for line in git(
            root, "for-each-ref", "--format=%(refname) %(objectname)"
        ).splitlines()
    )
    heads = (
        line.removeprefix("HEAD ")
        for line in git(root, "worktree", "list", "--porcelain").splitlines()
        if line.startswith("HEAD ")
    )
    return {commit for ref, commit in refs if not ref.startswith(RUNS)} | {
        head for head in heads if head.strip("0")
    }


def dvc_records(root: Path, commits: set[str]) -> dict[str, str]:
    """What DVC wrote into those commits (`dvc.lock` and every `.dvc` file), each text once, by a name for messages."""
    blobs: dict[str, str] = {}
    for commit in sorted(commits):
        for line in git(root, "ls-tree", "-r", "-z", commit).split("\0"):
            about, _, name = line.partition("\t")
            if is_dvc_record(name):
                blobs.setdefault(about.split(" ")[2], f"{commit[:12]}:{name}")
    return {name: git(root, "cat-file", "blob", blob) for blob, name in blobs.items()}


def dvc_records_in(root: Path) -> dict[str, str]:
    """The same of the working tree."""
    names = git(
        root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"
    ).split("\0")
    return {
        name: (root / name).read_text(encoding="utf-8")
        for name in names
        if is_dvc_record(name) and (root / name).is_file()
    }


def bundle_refs(root: Path, into: Path) -> bool:
    """Write every ref of Assay's with all that it leads to into one file; False where there is none."""
    if not git(root, "for-each-ref", "--count=1", ALL):
        return False
    git(root, "bundle", "create", "--quiet", str(into), f"--glob={ALL}*")
    return True


def fetch_refs(root: Path, bundle: Path) -> None:
    """Have the refs of a bundle in this checkout too."""
    git(
        root,
        "fetch",
        "--quiet",
        "--no-write-fetch-head",
        str(bundle),
        f"+{ALL}*:{ALL}*",
    )


def is_dvc_record(name: str) -> bool:
    """Whether DVC keeps digests of files in it."""
    return name == "dvc.lock" or name.endswith((".dvc", "/dvc.lock"))
