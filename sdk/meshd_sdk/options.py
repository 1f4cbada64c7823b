"""How units are to be run and believed, as the user says it and as the protocol does."""

import math
import sys
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from meshd_protocol.ids import function_digest
from meshd_protocol.limits import ATTEMPTS_MAX, DURATION_MS_MAX, NAME_CHARS_MAX, REPLICAS_MAX
from meshd_protocol.records import Needs, Policy, Runtime
from meshd_sdk.resources import Resources

_RETRIES: Final = 2


class Options(Struct, frozen=True, kw_only=True):
    """`replicas` 0 leaves the number of copies to `trust`; `quorum` 0 is a majority of the replicas.

    `timeout` is seconds for one attempt, `None` no limit. `retries` are attempts after the first that failed
    (`None`: 2, and none for what is not pure). `own_process` `None` is true for units that want GPUs. `lock` is what
    the nodes install for Python's units, or empty.
    """

    replicas: int = 0
    quorum: int = 0
    trust: str = "default"
    timeout: float | None = None
    retries: int | None = None
    pure: bool = True
    resources: Resources = field(default_factory=Resources)
    name: str = ""
    own_process: bool | None = None
    lock: bytes = b""

    def __post_init__(self) -> None:
        """Raise `ValueError` for what contradicts itself or exceeds a bound."""
        _check_range("replicas", self.replicas, REPLICAS_MAX)
        _check_range("quorum", self.quorum, REPLICAS_MAX)
        if self.quorum > self.replicas:
            raise ValueError(f"quorum={self.quorum} needs at least as many replicas, not {self.replicas}")
        if self.trust != "default":
            raise ValueError(f'trust must be "default" (or say replicas= and quorum=), not {self.trust!r}')
        if self.timeout is not None and not (math.isfinite(self.timeout) and 1 <= self._timeout_ms <= DURATION_MS_MAX):
            raise ValueError(f"timeout must be from 0.001 to {DURATION_MS_MAX // 1_000} seconds, not {self.timeout!r}")
        if self.retries is not None:
            _check_range("retries", self.retries, ATTEMPTS_MAX - 1)
        if not self.pure and (self.replicas > 1 or self.retries):
            raise ValueError("pure=False runs each unit at most once: leave replicas and retries out")
        if not isinstance(self.resources, Resources):
            raise TypeError(f"resources must be a Resources(cpus=, memory=, gpus=), not {self.resources!r}")
        if len(self.name) > NAME_CHARS_MAX:
            raise ValueError(f"name must have at most {NAME_CHARS_MAX} characters, not {len(self.name)}")

    @property
    def policy(self) -> Policy:
        """How the job's units become results."""
        retries = self.retries if self.retries is not None else _RETRIES if self.pure else 0
        return Policy(
            replicas=self.replicas,
            quorum=self.quorum or (self.replicas // 2 + 1 if self.replicas else 0),
            failures_max=retries + 1,
            timeout_ms=self._timeout_ms,
            pure=self.pure,
        )

    @property
    def needs(self) -> Needs:
        """What a unit asks of a node. Code travels as bytecode, so the interpreter's minor version is asked for."""
        return Needs(
            cpu_milli=self.resources.cpu_milli,
            memory_bytes=self.resources.memory_bytes,
            gpus=self.resources.gpus,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            environment=function_digest(self.lock) if self.lock else b"",
            # What a driver keeps of a process, and a unit left on the GPU, is given back when the process ends.
            own_process=self.resources.gpus > 0 if self.own_process is None else self.own_process,
        )

    def needs_for(self, runtime: Runtime) -> Needs:
        """What a unit of another runtime than Python asks: any interpreter will do."""
        if self.lock:
            raise ValueError("requirements are for Python functions: commands and modules can not import them")
        return replace(self.needs, runtime=runtime, python="", own_process=False)

    @property
    def _timeout_ms(self) -> int:
        return 0 if self.timeout is None else math.ceil(self.timeout * 1_000)


def _check_range(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if not 0 <= value <= most:
        raise ValueError(f"{name} must be from 0 to {most}, not {value}")
