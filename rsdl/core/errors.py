"""The exception hierarchy of the whole project.

Each error says where (a config field or a file), which rule was broken with which value, and what
to do about it, in one line. The command line maps the class to an exit code: 2 for wrong user
input, 69 for a resource of this machine or a store that is unavailable now, 75 for a preempted run
to be restarted, 1 for the rest.
"""

from collections.abc import Sequence

# EX_UNAVAILABLE of sysexits.h. Kubernetes restarts such a pod and does not count a failure.
UNAVAILABLE = 69


class RsdlError(Exception):
    """Base of everything that rsdl raises on purpose.

    Args:
        where: Config field path, file or URL that the error is about.
        problem: The rule that was broken and the value that broke it.
        remedy: Advice to the user, in the imperative; ``None`` if there is none.
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
    """The user's input is wrong; a retry cannot succeed."""

    exit_code = 2


class ConfigError(InputError):
    """A config field or a command-line argument is wrong."""


class ConfigErrors(InputError):
    """Several config fields are wrong; all are reported together, one line each."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("config", f"{len(self.errors)} errors")

    def __str__(self) -> str:
        """Return one line for each error."""
        return "\n".join(str(error) for error in self.errors)


class DataError(InputError):
    """A dataset, a shard or a source file is invalid."""


class CorruptSampleError(DataError):
    """One sample cannot be read or decoded; the ``skip`` policy skips it."""


class StorageError(InputError):
    """A store cannot be reached, read or written."""


class DeniedError(StorageError):
    """A store denies this user the request (no permission)."""


class ChangedError(StorageError):
    """A stored file or object differs from what was written under its name."""


class UnreachableError(StorageError):
    """A store did not answer within the timeout; a later attempt may succeed."""

    exit_code = UNAVAILABLE


class FullDiskError(StorageError):
    """A disk or a quota is full; another node, or a later attempt, may have space."""

    exit_code = UNAVAILABLE


class ClusterError(InputError):
    """A cluster cannot be reached, or rejects a request."""


class ForbiddenClusterError(ClusterError):
    """A cluster has authenticated the user but does not authorize the request."""


class OldClusterError(ClusterError):
    """A cluster's Kubernetes is too old for a manifest.

    Args:
        where: The operation that failed.
        fields: Fields that it does not know and would drop silently.
        minor: The first Kubernetes 1.N that knows all of them.
    """

    def __init__(self, where: str, fields: Sequence[str], minor: int) -> None:
        self.fields = frozenset(fields)
        listed = ", ".join(sorted(self.fields))
        problem = f"the cluster's Kubernetes is older than 1.{minor} and knows no {listed}"
        super().__init__(where, problem, f"ask for Kubernetes 1.{minor} or newer")


class UnreachableClusterError(ClusterError):
    """A cluster did not answer or was overloaded; a later attempt may succeed."""

    exit_code = UNAVAILABLE


class PreemptedError(RsdlError):
    """The run stopped on request, has saved a checkpoint and is to be restarted."""

    exit_code = 75


class StoppedEarlyError(PreemptedError):
    """The run was asked to stop before its first step; other ranks have not been notified."""


class NoGpuError(RsdlError):
    """The requested GPU is missing or unusable here; another node may have one."""

    exit_code = UNAVAILABLE


class AbsentPeerError(RsdlError):
    """Other processes did not join the run; this one releases its device and retries later."""

    exit_code = 75


class PeerError(RsdlError):
    """Another process of the run has failed or disappeared, so this one must exit too.

    Args:
        where: The process that failed.
        problem: How it failed.
        exit_code: Exit code of the failed process, which all processes take over.
        quiet: Whether another process on this machine reports the same error to the user.
    """

    def __init__(
        self, where: str, problem: str, *, exit_code: int = 1, quiet: bool = False
    ) -> None:
        super().__init__(where, problem)
        self.exit_code = exit_code
        self.quiet = quiet
