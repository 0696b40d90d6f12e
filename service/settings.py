"""The few settings of the service: from flags, else from STILLROOM_* variables, else their defaults.

It knows their names, limits and defaults. It does not know what they are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticUndefined

from service.errors import SettingsError
from service.log import LogFormat
from service.machine import usable_cpus
from service.session import Device

PREFIX = "STILLROOM_"

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Settings:
    """What the service can be told. Every field is a flag and a variable: `--max-batch`, `STILLROOM_MAX_BATCH`."""

    models_dir: Path = Field(default=Path("models"), description="the model repository")
    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 for any free one")
    device: Device = Field(default="auto", description="auto, cpu or cuda; auto takes CUDA where it is found")
    workers: Count = Field(default=1, description="processes that share the port, each with models of its own")
    threads: Count | None = Field(
        default=None, description="threads of a large model; by default the usable CPUs, shared by the workers"
    )
    max_batch: Count = Field(default=1024, description="rows that one request may send and one run may hold")
    max_queue: Count = Field(default=8192, description="rows that may wait for one model; one more gets a 503")
    timeout_s: Seconds = Field(
        default=30.0, description="seconds for a request to come in (408) and a model to answer (504)"
    )
    drain_s: Count = Field(default=10, description="seconds after SIGTERM for what is in flight; the rest gets a 503")
    max_body_bytes: Count = Field(default=32 * 2**20, description="bytes of the largest request body")
    max_image_pixels: Count = Field(default=20_000_000, description="pixels of the largest image")
    reload_s: Seconds = Field(default=2.0, description="seconds between two looks for new versions")
    max_connections: Count = Field(default=1000, description="open connections of each worker; one more gets a 503")
    cors_origins: str = Field(default="", description="origins whose pages may ask, separated by spaces")
    api_keys: str = Field(default="", description="API keys, separated by spaces: NAME:SCOPE+SCOPE:SHA256 each")
    api_keys_file: Path | None = Field(default=None, description="file of API keys, one a line")
    log_format: LogFormat = Field(default="text", description="text or json")
    access_log: bool = Field(default=False, description="log every request")
    traces: bool = Field(
        default=False, description="send OpenTelemetry traces to where OTEL_EXPORTER_OTLP_ENDPOINT says"
    )
    model_control: bool = Field(default=False, description="let clients load and unload models by /v2/repository")
    state_dir: Path | None = Field(default=None, description="the only folder that the service may write to")

    @property
    def threads_each(self) -> int:
        """Threads of a large model in each worker."""
        return self.threads or max(1, usable_cpus() // self.workers)


def read_settings(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Settings:
    """Settings from flags (by field, None where not given) and variables; an empty variable counts as not given.

    Raises SettingsError, naming the key, the value and what was expected.
    """
    given: dict[str, str] = {}
    keys: dict[str, str] = {}
    for field in fields(Settings):
        flag, variable = flags.get(field.name), PREFIX + field.name.upper()
        if flag is not None:
            given[field.name], keys[field.name] = flag, flag_of(field.name)
        elif environ.get(variable):
            given[field.name], keys[field.name] = environ[variable], variable
    values: dict[str, Any] = dict(given)
    try:
        return Settings(**values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0])
        expected = problem["msg"].replace("Input should be", "expected", 1)
        raise SettingsError(f"{keys[name]}: got {given[name]!r}, {expected}") from error


def flag_of(name: str) -> str:
    """The flag of a field: `--models-dir` of `models_dir`."""
    return "--" + name.replace("_", "-")


def help_of(name: str) -> str:
    """What a field is, its default where there is a plain one, and its variable."""
    info = Settings.__pydantic_fields__[name]  # type: ignore[attr-defined]  # pydantic adds it
    default = "" if info.default in (None, PydanticUndefined) else f"; default {info.default}"
    return f"{info.description}{default} ({PREFIX}{name.upper()})"
