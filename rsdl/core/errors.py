"""One error tree for the whole project.

Each error says where (a config field or a file), which rule was broken with which value, and what
to do about it, in one line. The command line turns the class into an exit code: 2 for a user's
input, 69 for what this machine or a store does not have now and may have later, 75 for a preempted
run that wants to be started again, 1 for the rest.
"""

from collections.abc import Sequence

# EX_UNAVAILABLE of sysexits.h. Kubernetes starts such a pod again, and counts it as no failure.
UNAVAILABLE = 69


class RsdlError(Exception):
    """Base of everything that rsdl raises on purpose.

    Args:
        where: Config field path, file or URL that the error is about.
        problem: The rule that was broken and the value that broke it.
        remedy: What the user can do, as an imperative; ``None`` where nothing can be advised.
    """

    exit_code = 1

    def __init__(self, where: str, problem: str, remedy: str | None = None) -> None:
        self.where = where
        self.problem = problem
        self.remedy = remedy
        super().__init__(where, problem, remedy)

    def __str__(self) -> str:
        """Return ``where: problem; remedy`` on one line."""
        text = f"{self.where}: {self.problem}"
        return " ".join((f"{text}; {self.remedy}" if self.remedy else text).split())


class InputError(RsdlError):
    """The user's input is wrong; trying again cannot help."""

    exit_code = 2


class ConfigError(InputError):
    """A config field or a command-line argument is wrong."""


class ConfigErrors(InputError):
    """Several config fields are wrong; all are reported together, a line each."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("config", f"{len(self.errors)} errors")

    def __str__(self) -> str:
        """Return one line for each error."""
        return "\n".join(str(error) for error in self.errors)


class DataError(InputError):
    """A data set, a shard or a source file is wrong."""


class CorruptSampleError(DataError):
    """One sample cannot be read or decoded; the ``skip`` policy passes over it."""


class StorageError(InputError):
    """A store cannot be reached, read or written as asked."""


class DeniedError(StorageError):
    """A store does not let this user do what was asked."""


class ChangedError(StorageError):
    """What is stored under a name is not what was written there."""


class UnreachableError(StorageError):
    """A store did not answer for as long as we were ready to wait; later it may."""

    exit_code = UNAVAILABLE


class FullDiskError(StorageError):
    """A disk or a quota is full; elsewhere, or later, there may be room."""

    exit_code = UNAVAILABLE


class ClusterError(InputError):
    """A cluster cannot be asked, or refuses what it is asked for."""


class ForbiddenClusterError(ClusterError):
    """A cluster knows the user, and does not let them do what was asked."""


class OldClusterError(ClusterError):
    """A cluster's Kubernetes is too old for what it is given.

    Args:
        where: What was done.
        fields: Fields that it does not know, and would drop in silence.
        minor: The first Kubernetes 1.N that knows all of them.
    """

    def __init__(self, where: str, fields: Sequence[str], minor: int) -> None:
        self.fields = frozenset(fields)
        listed = ", ".join(sorted(self.fields))
        problem = f"the cluster's Kubernetes is older than 1.{minor} and knows no {listed}"
        super().__init__(where, problem, f"ask for Kubernetes 1.{minor} or newer")


class UnreachableClusterError(ClusterError):
    """A cluster did not answer, or was too busy to; later it may."""

    exit_code = UNAVAILABLE


class PreemptedError(RsdlError):
    """The run was asked to stop, has saved its state and wants to be started again."""

    exit_code = 75


class StoppedEarlyError(PreemptedError):
    """The run was asked to stop before its first step; other ranks do not know of it yet."""


class NoGpuError(RsdlError):
    """The GPU that was asked for is not here, or cannot be used; elsewhere one may be."""

    exit_code = UNAVAILABLE


class AbsentPeerError(RsdlError):
    """Other processes of the run have not come; this one gives its device up, and tries later."""

    exit_code = 75


class PeerError(RsdlError):
    """Another process of the run has failed or is gone, so this one cannot go on either.

    Args:
        where: The process that failed.
        problem: What became of it.
        exit_code: How all processes are to end: as the one that failed.
        quiet: Whether a process beside this one says the same to the user.
    """

    def __init__(
        self, where: str, problem: str, *, exit_code: int = 1, quiet: bool = False
    ) -> None:
        super().__init__(where, problem)
        self.exit_code = exit_code
        self.quiet = quiet
