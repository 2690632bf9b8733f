"""The one error tree of the project.

    OptimasError
    ├── UserError                     bad input: one sentence, exit code 2
    │   ├── SpecError                 run.yaml: unknown key, wrong type, impossible value
    │   ├── SystemDefinitionError     cycle, two writers of one field, a component that cannot be called
    │   ├── ConfigurationError        a value outside its space
    │   ├── DataError                 missing file or column, empty split, one example in two splits
    │   ├── MetricError               a metric that raises or returns NaN or infinity
    │   └── EnvironmentNotReady       credentials, endpoint, model files, a store without conditional writes
    ├── TemporaryError                worth trying again (a fact of the class, not of a string)
    │   ├── RateLimited               429; may carry retry_after_s
    │   ├── ServerFault               5xx, reset, cut stream
    │   ├── CallTimeout               the call's deadline passed
    │   └── StoreUnavailable          the object store did not answer
    ├── PermanentError                trying again cannot help
    │   ├── CallRejected              4xx other than 429, unknown model
    │   ├── AuthenticationFailed      401, 403
    │   ├── ArtifactCorrupt           a committed file does not match its manifest or schema
    │   ├── LeaseLost                 another process holds the run now
    │   └── TrainingDiverged          a loss or a reward that is not finite
    ├── FormatError                   a model answered, but not in the declared form: a result, never retried
    ├── BudgetExhausted               a cap of the run would be exceeded by the next call
    └── Interrupted                   SIGTERM or SIGINT: the commit in progress was finished

Every error has a stable `code` (tests and scripts may rely on it), a message that names the offending value
and a `remedy` that says what to do. Whether a call is tried again depends only on `TemporaryError`.
"""

from __future__ import annotations

import re

from optimas_core._redaction import without_keys

_MAX_CHARS = 2000
# What would steer a terminal, turn the direction of writing, end a line of a log or cannot be encoded.
_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


class OptimasError(Exception):
    """Base of all our errors. `code` is stable; `remedy` says what to do next. Neither text ever holds a key of the environment or a
    control character, or is longer than a screen, whatever a user's exception, a server or a stranger's file put into it."""

    code = "optimas"
    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = _shown(message)
        self.remedy = _shown(remedy)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip() if self.remedy else self.message


def _shown(text: str) -> str:
    text = _NOT_SHOWN.sub(lambda found: ascii(found[0])[1:-1], without_keys(text))
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS // 2]} … {text[-_MAX_CHARS // 2 + 3 :]}"


class UserError(OptimasError):
    code = "user"
    exit_code = 2


class SpecError(UserError):
    code = "spec"


class SystemDefinitionError(UserError):
    code = "system"


class ConfigurationError(UserError):
    code = "configuration"


class DataError(UserError):
    code = "data"


class MetricError(UserError):
    code = "metric"


class EnvironmentNotReady(UserError):
    code = "environment"


class TemporaryError(OptimasError):
    """`maybe_billed`: the request had been sent and its answer was lost, so a vendor may charge for it."""

    code = "temporary"

    def __init__(self, message: str, *, remedy: str = "", maybe_billed: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.maybe_billed = maybe_billed


class RateLimited(TemporaryError):
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: float | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class ServerFault(TemporaryError):
    code = "server_fault"

    def __init__(self, message: str, *, retry_after_s: float | None = None, remedy: str = "", maybe_billed: bool = False) -> None:
        super().__init__(message, remedy=remedy, maybe_billed=maybe_billed)
        self.retry_after_s = retry_after_s


class CallTimeout(TemporaryError):
    code = "timeout"


class StoreUnavailable(TemporaryError):
    code = "store_unavailable"


class PermanentError(OptimasError):
    code = "permanent"


class CallRejected(PermanentError):
    code = "call_rejected"


class AuthenticationFailed(PermanentError):
    code = "authentication"


class ArtifactCorrupt(PermanentError):
    code = "artifact_corrupt"


class LeaseLost(PermanentError):
    code = "lease_lost"
    exit_code = 4


class TrainingDiverged(PermanentError):
    code = "training_diverged"


class FormatError(OptimasError):
    code = "format"


class BudgetExhausted(OptimasError):
    code = "budget"
    exit_code = 3


class Interrupted(OptimasError):
    code = "interrupted"
    exit_code = 130
