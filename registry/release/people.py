"""Who is who and who may do what: `people.yaml` in the project's root, under version control.

```yaml
people:
  ann:
    mlflow: [ann]            # users of MLflow's
    accounts: [1000, kim]    # numbers or login names of the operating system's accounts
    roles: [author, approver]
command_line: [author]       # whoever types a command in this home and is not listed
without_admission: []        # [release_manager]: an alias that nobody admitted is a wish
```

A person with several identities is one person. Roles belong to the account that acts and never to
a name that somebody typed. Without the file `DEFAULT` holds.
"""

import stat
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from core.account import (
    MLFLOW,
    UNKNOWN_ACCOUNT,
    Signed,
    chosen_name,
    login_name,
    mlflow_user_of,
    normalise_name,
    operating_system_account,
    system_marks,
)
from core.errors import ParameterError
from core.roles import PersonRole
from core.value import Value, first_problem

_V = TypeVar("_V", bound=Value)
FILE = "people.yaml"
_LARGEST = 100_000
"""Bytes: some thousand people."""
_SERVICE = "assay"
"""MLflow's account of worker and controller, which is nobody's."""


def _check_name(name: str) -> str:
    is_readable = bool(normalise_name(name)) and name.isprintable()
    if not is_readable or name != name.strip():
        raise PydanticCustomError("name", "Write a name of printable letters")
    return name


def _as_text(account: object) -> object:
    # A yes is a number for Python, and 1e3 is one for YAML: neither is an account.
    if isinstance(account, bool):
        return account
    if isinstance(account, int):
        return str(account)
    return account


Name = Annotated[
    str, Field(strict=True, min_length=1, max_length=100), AfterValidator(_check_name)
]
SystemAccount = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(strict=True, pattern=r"^[\w.@$\\-]{1,60}$"),
]


class Person(Value):
    """One human: every identity and every role."""

    mlflow: tuple[Name, ...] = Field(default=(), description="Users of MLflow's.")
    accounts: tuple[SystemAccount, ...] = Field(
        default=(),
        description="The operating system's accounts, each by number or login name.",
    )
    roles: tuple[PersonRole, ...] = ()

    def identities(self) -> Iterator[str]:
        """Every identity as an account holds it: `mlflow:ann`, `1000`, `kim`."""
        for user in self.mlflow:
            yield f"{MLFLOW}{user}"
        yield from self.accounts


class People(Value):
    """Everybody who has a role, by name."""

    people: dict[Name, Person]
    command_line: tuple[PersonRole, ...] = Field(
        default=(),
        description="Roles of each account of the operating system that nobody is listed with.",
    )
    without_admission: tuple[Literal["release_manager"], ...] = Field(
        default=(),
        description="What whoever can set aliases may do in an MLflow without admission.",
    )

    @model_validator(mode="after")
    def _check_identities(self) -> Self:
        """Every name and every identity is one person's, and listed once."""
        names: set[str] = set()
        owners: dict[str, str] = {
            f"{MLFLOW}{_SERVICE}": "the service itself",
            # An entry of that account says that nobody knows who it was.
            UNKNOWN_ACCOUNT: "whoever is not known",
        }
        for name, person in self.people.items():
            # Ann and ann would be one person to a reader, and two to a comparison.
            if normalise_name(name) in names:
                raise _problem(f"people.{name} is listed twice")
            names.add(normalise_name(name))
            for identity in map(normalise_name, person.identities()):
                if identity in owners:
                    other = owners[identity]
                    raise _problem(
                        f"people.{name} has {identity}, which is that of {other}"
                    )
                owners[identity] = name
        return self

    def has_role(self, by: str, account: str | None, role: PersonRole) -> bool:
        """Whether the account that acted as `by` has the role."""
        name = self.person_of(by, account)
        if name is not None:
            return role in self.people[name].roles
        # What happened before accounts were recorded gives nobody a role.
        if account is None:
            return False
        # A user of MLflow's whom nobody lists has no role, whoever's terminal it is.
        user = mlflow_user_of(by, account)
        if user is not None:
            return False
        marks = system_marks(account)
        is_system = bool(marks)
        return is_system and role in self.command_line

    def person_of(self, by: str, account: str | None) -> str | None:
        """Who acted, by the name in the file; None where nobody is listed with the account.

        After `assay login` it is who is listed with MLflow's user, whoever's terminal it was.
        To the letter, since it gives roles: `Ann` may be another user than `ann`.
        """
        if account is None:
            return None
        user = mlflow_user_of(by, account)
        if user is not None:
            return self._listed_with(f"{MLFLOW}{user}")
        for mark in system_marks(account):
            name = self._listed_with(mark)
            if name is not None:
                return name
        return None

    def persons_of(self, by: str, account: str | None) -> frozenset[str]:
        """Everybody who is listed with any part of the account: they count as one person.

        As people read names, since that counts too few people and never too many.
        """
        if account is None:
            return frozenset()
        marks = list(system_marks(account))
        user = mlflow_user_of(by, account)
        if user is not None:
            marks.append(f"{MLFLOW}{user}")
        looked_up = set(map(normalise_name, marks))
        names = set()
        for name, person in self.people.items():
            listed = map(normalise_name, person.identities())
            if not looked_up.isdisjoint(listed):
                names.add(name)
        return frozenset(names)

    def signed(self, by: str, account: str) -> Signed:
        """The name and the account, with whoever is listed with them."""
        persons = self.persons_of(by, account)
        return Signed(
            by,
            account,
            persons,
        )

    def names_of(self, by: str, account: str) -> frozenset[str]:
        """Every name of whoever acted, as names are compared."""
        name = self.person_of(by, account)
        if name is None:
            return frozenset()
        person = self.people[name]
        names = (name, *person.mlflow, *person.accounts)
        return frozenset(map(normalise_name, names))

    def list_with_role(self, role: PersonRole) -> tuple[str, ...]:
        """Everybody with the role, by name: whom a refusal can send a person to."""
        names = []
        for name, person in self.people.items():
            if role in person.roles:
                names.append(name)
        return tuple(sorted(names))

    def _listed_with(self, mark: str) -> str | None:
        for name, person in self.people.items():
            if mark in person.identities():
                return name
        return None


DEFAULT = People(
    people={
        "manager": Person(mlflow=("manager",), roles=("release_manager", "approver")),
        "scientist": Person(mlflow=("scientist",), roles=("author",)),
        "admin": Person(mlflow=("admin",), roles=("auditor", "release_manager")),
    },
    # A home opens for its owner alone: whoever types a command on it owns it.
    command_line=("author", "release_manager"),
)
"""Without a file: MLflow's first users, and whoever owns the home."""


def read_people(root: Path) -> People:
    """Read `people.yaml` of a project's root; `DEFAULT` where there is none.

    `ParameterError`, one sentence, where the file is there and cannot be taken at its word.
    """
    purpose = Purpose("who may do what", "nobody has a role", "people")
    people = read_strictly(root / FILE, People, purpose)
    return DEFAULT if people is None else people


class Purpose(NamedTuple):
    """What a file is for, as the sentence about a file that cannot be read says it."""

    says: str
    until_then: str
    top: str
    """The section that every such file begins with."""


def read_strictly(path: Path, kind: type[_V], purpose: Purpose) -> _V | None:
    """Parse a small YAML file that decides who may do something; None where there is none.

    `ParameterError`, one sentence, where the file is there and cannot be taken at its word.
    """
    try:
        text = _read_text(path)
        if text is None:
            return None
        return _parse(text, kind, purpose.top)
    except ValidationError as error:
        problem = first_problem(error)
    except yaml.MarkedYAMLError as error:
        problem = _describe(error)
    except yaml.YAMLError as error:
        problem = f"it is no YAML ({type(error).__name__})"
    except OSError as error:
        problem = f"it cannot be read ({error.strerror})"
    # A number of thousands of digits, a date 2024-13-45, text that is not UTF-8, or deep nesting.
    except (ValueError, RecursionError) as error:
        problem = f"it cannot be read as YAML ({type(error).__name__})"
    raise ParameterError(
        f"{path} does not say {purpose.says}: {problem}. "
        f"Correct it, or bring it back from git; until then {purpose.until_then}."
    )


def acting_name(root: Path) -> str:
    """The name under which the account of the operating system acts: `ASSAY_USER`, or its login.

    `ParameterError` where `ASSAY_USER` is somebody else's name.
    """
    own = login_name()
    chosen = chosen_name()
    # Most set nothing, and then no file is asked.
    if normalise_name(chosen) in {"", normalise_name(own)}:
        return own
    account = operating_system_account()
    people = read_people(root)
    if normalise_name(chosen) in people.names_of(own, account):
        return chosen
    printable = chosen.encode("ascii", "backslashreplace").decode()
    raise ParameterError(
        f"ASSAY_USER names {printable[:60]!r}, and this account is {account}: nobody acts under "
        f"another's name. Unset it, have {FILE} list that name with the account, "
        "or log in as a user of MLflow's with `assay login`."
    )


def _read_text(path: Path) -> str | None:
    """The file's text; None where there is none. `OSError` and `ValueError` as they come."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    kind = status.st_mode
    # A link could lead to a file that is under nobody's review.
    if not stat.S_ISREG(kind):
        raise yaml.MarkedYAMLError(problem="it is a link or a folder, and no file")
    with path.open("rb") as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise yaml.MarkedYAMLError(problem=f"it is larger than {_LARGEST:,} bytes")
    return content.decode("utf-8-sig")


def _parse(text: str, kind: type[_V], top: str) -> _V:
    document = yaml.load(text, Loader=_Strict)  # noqa: S506  # a SafeLoader
    if not isinstance(document, dict):
        raise yaml.MarkedYAMLError(problem=f"it has no `{top}:` at its top")
    return kind.model_validate(document)


class _Strict(yaml.SafeLoader):
    """YAML without aliases, which can grow without end, and without a key that comes twice."""

    def fetch_alias(self) -> None:
        """Refuse `*name`."""
        raise yaml.MarkedYAMLError(
            problem="an alias (*) is not taken here", problem_mark=self.get_mark()
        )


def _construct_mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Hashable, Any]:
    keys: set[str] = set()
    for key, _ in node.value:
        is_text = isinstance(key, yaml.ScalarNode)
        # Two sections of one person would silently be the later one.
        if not is_text or key.value in keys:
            raise yaml.MarkedYAMLError(
                problem=f"{str(key.value)[:60]!r} is there twice or is no name",
                problem_mark=key.start_mark,
            )
        keys.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def _describe(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it is no YAML"
    if error.problem_mark is None:
        return problem
    return f"line {error.problem_mark.line + 1}: {problem}"


def _problem(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("people", "{sentence}", {"sentence": sentence})
