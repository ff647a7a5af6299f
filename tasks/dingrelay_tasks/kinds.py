"""The registry of job kinds. Each is declared once, by `@kind` on its body, beside its contract.

Everything else follows from the declaration: Celery task and queue, route, scope and schema over HTTP,
the kinds that a command or a file of jobs may name, limits, history, people, erasure. A module is imported when a kind
of it is looked up, and all modules of the package when kinds are listed: so the registry is always complete.

Another package brings kinds by entry points of the group ``dingrelay.kinds``: the name of one is that of the kind, its
value the module that declares it.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cache, partial
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dingrelay_tasks.contract import Contract, ContractError, Json, Part
from dingrelay_tasks.kind_checks import problems_of
from dingrelay_tasks.packaged_kinds import KindError, package_of, packaged_kinds
from dingrelay_tasks.person_fields import Path, paths_of, people_in
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from dingrelay_tasks.context import Context

TASK_PREFIX = "dingrelay."
"""A kind's Celery task is called ``dingrelay.<kind>``."""
_PACKAGE = __name__.rpartition(".")[0]
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Body = Callable[[Any, "Context"], Awaitable[Json]]
_Body = TypeVar("_Body", bound=Body)
Abandon = Callable[..., Awaitable[None]]
Steps = Mapping[str, Json]
"""Results of a job's steps (`Context.once`)."""
SoFar = Callable[[Steps], Json | None]
Outcomes = Callable[[Json, Steps], dict[str, str]]
Stated = Callable[[Json, Steps, str], tuple[Json, bool]]
ResolvedBy = Literal["nothing", "sent", "instance or not_created"]


async def _no_body(job: Contract, ctx: "Context") -> Json:
    raise NotImplementedError(job.kind)


@dataclass(frozen=True, slots=True)
class Kind:
    """The declaration of one kind of job; as a decorator it registers the kind with its body.

    Attributes:
        name: such as ``message-send``.
        contract: the arguments of the job.
        queue: the queue of all its jobs; the one of their lane if empty.
        summary: what its line in Flower and logs says of a job beside app, lane and sender: no text, no
            person. A format of the job, such as ``{0.method} {0.path}``.
        scope: what an API key needs to enqueue it. Without one it is internal: only dingrelay itself
            makes such jobs.
        path: of its route; ``/v1/<name>s`` if empty.
        operation: the name of its route; derived from the name if empty.
        result: the model of its result, for the schemas.
        api: the API of DingTalk that most of its calls are of; empty if no limit is known beforehand.
        rules: limits of what it calls, as in the settings: API or path → unit → limit.
        users: paths of the fields that name the users it is for, such as ``to.users``. That the contract names a
            person elsewhere, too, its types say (`person_fields`).
        outcomes: what became of each of these users, by the job and its steps. By default
            ``accepted`` once there is a step, ``not_sent`` before.
        so_far: the result of a job that ended before all was done, by its steps.
        abandon: records elsewhere that the job ended without success, from its contract and context; `in_doubt`
            where its last call may have been carried out.
        steps: people in steps that neither contract nor result names: a path that begins with the
            step's name, or the beginning of the names of steps that go on with a userid, such as ``user:``.
        resolved_by: what a person states to resolve an `unknown` job.
        stated: outcome of the step that a person states to have been carried out, by the job, its steps and the step's
            name, and whether calls are left to be made, for which the job goes on. Without it the job is done.
        changing_step: the step whose call must not be repeated, and can be looked for, where a
            failover of Redis may have lost the intent.
        goes_on: a pause of its lane or sender does not hold it, since it takes back or looks after what was sent.
        awaited: much waits for one answer that it asks for, so an attempt that fails is repeated soon.
        reported: an internal kind that applications ask for by a method or a route of its own, so
            that the history and subscribers get its end.
        ephemeral: its record is deleted once it has been settled elsewhere, so a wake-up
            without a record is the echo of one that is over. Its end is not published.
        run: what the job does; returns its result as JSON values.
    """

    name: str
    contract: type[Contract]
    _: KW_ONLY
    queue: str = ""
    summary: str = ""
    scope: str = ""
    path: str = ""
    operation: str = ""
    result: type[Part] | None = None
    api: str = ""
    rules: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    users: Sequence[str] = ()
    outcomes: Outcomes | None = None
    so_far: SoFar | None = None
    abandon: Abandon | None = None
    steps: Sequence[Path] = ()
    resolved_by: ResolvedBy = "nothing"
    stated: Stated | None = None
    changing_step: str = ""
    goes_on: bool = False
    awaited: bool = False
    reported: bool = False
    ephemeral: bool = False
    run: Body = _no_body

    def __call__(self, run: _Body) -> _Body:
        """Register the kind with its body.

        Raises:
            KindError: the declaration is wrong, or another kind has its name or its contract.
        """
        if self.name in _DECLARED:
            modules = _DECLARED[self.name].run.__module__, run.__module__
            raise KindError(en("the kind {} is declared twice: by {} and {}", self.name, *modules))
        for problem in problems_of(self, run):
            raise KindError(en("the kind {} of {}: {}", self.name, run.__module__, problem))
        for other in _DECLARED.values():
            if other.contract is self.contract:
                problem = en(
                    "{} is the contract of the kind {}: derive one from it",
                    self.contract.__name__,
                    other.name,
                )
                raise KindError(en("the kind {} of {}: {}", self.name, run.__module__, problem))
        self.contract.kind, self.contract.own_queue = self.name, self.queue
        self.contract.summary_format = self.summary
        outcomes = self.outcomes or (partial(_outcomes, self.users) if self.users else None)
        _DECLARED[self.name] = replace(self, run=run, outcomes=outcomes)
        return run

    @property
    def is_public(self) -> bool:
        """Whether applications enqueue it: by a client, a file of jobs, HTTP or Celery."""
        return bool(self.scope)

    @property
    def is_reported(self) -> bool:
        """Whether its end is reported to subscribers: it was requested from outside."""
        return self.is_public or self.reported

    def people(self, job: Json, result: Json, steps: Steps) -> set[str]:
        """The userids in the fields of a job that hold some, of its result and of its steps.

        Args:
            job: the contract as JSON values, of whatever shape.
            result: its result; empty if it has none.
            steps: its steps.
        """
        people = people_in(job, paths_of(self.contract))
        if self.result is not None:
            people |= people_in(result, paths_of(self.result))
        people |= people_in(steps, (path for path in self.steps if not path.endswith(":")))
        begins = tuple(path for path in self.steps if path.endswith(":"))
        return people | {name.partition(":")[2] for name in steps if name.startswith(begins)}

    @property
    def task(self) -> str:
        """The name of its Celery task."""
        return TASK_PREFIX + self.name


kind = Kind
"""The decorator of a body: ``@kind("api-call", ApiCall, scope="calls:write", …)``."""
_DECLARED: dict[str, Kind] = {}


class _Kinds(Mapping[str, Kind]):
    def __getitem__(self, name: str) -> Kind:
        if name not in _DECLARED:
            _import_module_of(name)
        return _DECLARED[name]

    def __iter__(self) -> Iterator[str]:
        _import_modules()
        return iter(sorted(_DECLARED))

    def __len__(self) -> int:
        return sum(1 for _ in self)


KINDS: Mapping[str, Kind] = _Kinds()
"""Every kind by its name."""


@cache
def _modules() -> frozenset[str]:
    return frozenset(module.name for module in iter_modules(import_module(_PACKAGE).__path__))


def _import_module_of(kind_name: str) -> None:
    """Import the module that is called as the kind, or else all: some declare a second kind."""
    module = kind_name.replace("-", "_")
    if module in _modules():
        import_module(f"{_PACKAGE}.{module}")
    elif kind_name in packaged_kinds():
        _import_packaged(packaged_kinds()[kind_name])
    if kind_name not in _DECLARED:
        _import_modules()


@cache
def _import_modules() -> None:
    for module in sorted(_modules()):
        import_module(f"{_PACKAGE}.{module}")
    for point in packaged_kinds().values():
        _import_packaged(point)


def _import_packaged(point: "EntryPoint") -> None:
    package = package_of(point)
    try:
        import_module(point.module)
    except KindError as error:
        raise KindError(en("{}: {}", package, error)) from None
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise KindError(
            en(
                "{}: the kind {} can't be imported from {}: {}",
                package,
                point.name,
                point.module,
                cause,
            )
        ) from error
    if point.name not in _DECLARED:
        raise KindError(en("{}: {} declares no kind {}", package, point.module, point.name))


def reported_kinds() -> frozenset[str]:
    """The kinds whose ends are reported, and whose jobs are listed."""
    return frozenset(name for name, kind in KINDS.items() if kind.is_reported)


DEFAULT_KIND = "message-send"
"""The kind of a job in a file of jobs that names none."""


def public_kind(name: object) -> Kind:
    """The kind that an application names.

    Raises:
        ContractError: there is none of that name that applications may enqueue.
    """
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or not kind.is_public:
        public_names = ", ".join(sorted(kind.name for kind in KINDS.values() if kind.is_public))
        raise ContractError("kind", en("must be one of {}", public_names))
    return kind


def declared_rules() -> dict[str, Mapping[str, str]]:
    """The limits of all kinds: API or path → unit → limit.

    Raises:
        KindError: two kinds limit one API differently.
    """
    rules: dict[str, Mapping[str, str]] = {}
    for kind in KINDS.values():
        for api, limits in kind.rules.items():
            if rules.setdefault(api, limits) != limits:
                raise KindError(
                    en("the kind {}: another kind has other rules for {}", kind.name, api)
                )
    return rules


def _outcomes(paths: Sequence[str], job: Json, steps: Steps) -> dict[str, str]:
    """Outcomes of the users in these fields, of a job that makes one call for all of them."""
    users = (user for path in paths for user in _texts(job, path))
    return dict.fromkeys(users, "accepted" if steps else "not_sent")


def _texts(job: Json, path: str) -> list[str]:
    """The text or the list of texts at a dotted path of a job."""
    node: Any = job
    for name in path.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return [node] if isinstance(node, str) else list(node or ())


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON Schema of every public kind and of its result, with its name: ``message-send.json``."""
    for kind in KINDS.values():
        if kind.is_public and kind.result is not None:
            yield f"{kind.name}.json", {"$schema": DIALECT, **kind.contract.model_json_schema()}
            result = kind.result.model_json_schema(mode="serialization")
            yield f"{kind.name}.result.json", {"$schema": DIALECT, **result}
