"""The models that a worker offers: folders that it computes, and servers that it asks; and an engine for each."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import structlog

from asterism.orchestrator.core.errors import Misconfigured
from asterism.protocol.channel import is_loopback
from asterism.workers.engine.http_call import ServerLimits
from asterism.workers.engine.http_engine import HttpEngine
from asterism.workers.engine.http_retry import Patience
from asterism.workers.engine.http_stream import Price
from asterism.workers.engine.seam import Engine
from asterism.workers.model_settings import ModelTable
from asterism.workers.profile import NO_MODEL
from asterism.workers.settings import WorkSettings

Source: TypeAlias = Path | ModelTable
"""A model folder, or a server."""

MAX_KEY_BYTES: Final = 64 * 1024

_log = structlog.get_logger(__name__)


def find_sources(settings: WorkSettings) -> Mapping[str, Source]:
    """What may be offered, by name: shipped folders, those of `model_dir`, what the worker's file names.

    A later one takes the place of an earlier one of the same name; only `settings.models`, where these are given.
    Raises Misconfigured for a name that is not there, and for a folder that is none.
    """
    names = settings.models
    if NO_MODEL in names:
        return {}
    found: dict[str, Source] = {**list_models(shipped_models())}
    if settings.model_dir is not None:
        if not settings.model_dir.is_dir():
            raise Misconfigured("model-dir", f"{settings.model_dir} is no folder")
        found |= list_models(settings.model_dir)
    for name, table in settings.file.models.items():
        found[name] = table if table.folder is None else _folder(name, table.folder)
    missing = [name for name in names if name not in found]
    if missing:
        there = ", ".join(sorted(found)) or "none"
        raise Misconfigured("model", f"no model named {', '.join(missing)}; there are: {there}")
    return {name: source for name, source in found.items() if not names or name in names}


@asynccontextmanager
async def open_engines(settings: WorkSettings) -> AsyncIterator[Mapping[str, Engine]]:
    """An engine for each model, started; closed at the end. Raises Misconfigured, and Unreachable for a server."""
    sources = find_sources(settings)
    folders = [name for name, source in sources.items() if isinstance(source, Path)]
    if folders and find_spec("torch") is None:
        if any(name in settings.models or name in settings.file.models for name in folders):
            raise Misconfigured("model", "torch is not installed here: pip install 'asterism[worker]'")
        _log.warning("no torch: no models of folders", models=sorted(folders))
        sources = {name: source for name, source in sources.items() if not isinstance(source, Path)}
    if not sources and NO_MODEL not in settings.models:
        _log.warning("no model: tools and plans only")
    engines: dict[str, Engine] = {}
    try:
        for name, source in sources.items():
            if isinstance(source, Path):
                # Importing torch and reading weights takes seconds; signals are taken meanwhile.
                engine: Engine = await asyncio.to_thread(load_engine, source, settings)
            else:
                engine = server_engine(name, source)
            await engine.start()
            engines[name] = engine
        yield engines
    finally:
        for engine in engines.values():
            await engine.close()


def load_engine(folder: Path, settings: WorkSettings) -> Engine:
    """The engine of a model folder, not started. Raises `Misconfigured` for what this machine does not compute in."""
    from asterism.workers.engine.computer import find_computer, find_device, find_dtype
    from asterism.workers.engine.folder import load_folder
    from asterism.workers.engine.torch_engine import TorchEngine

    device = find_device(settings.device)
    model = load_folder(folder, dtype=find_dtype(settings.dtype, device))
    make_computer = find_computer(settings.dtype)
    return TorchEngine(model, os_threads=settings.threads, device=device, make_computer=make_computer)


def server_engine(name: str, table: ModelTable, environment: Mapping[str, str] = os.environ) -> HttpEngine:
    """The engine that asks a server, not started. Raises Misconfigured for a key that is not there."""
    assert table.url is not None
    key = read_key(name, table, environment)
    address = urlsplit(table.url)
    if key is not None and address.scheme == "http" and not is_loopback(address.hostname or ""):
        _log.warning("a key travels as plain text: use https", model=name, host=address.hostname)
    return HttpEngine(
        table.url,
        model=table.model,
        credential=key,
        context_tokens=table.context_tokens,
        api=table.api,
        dialect=table.server,
        has_schemas=table.schemas,
        price=Price(table.price.prompt, table.price.cached, table.price.answer),
        limits=ServerLimits(
            max_sequences=table.max_sequences,
            max_tokens=table.max_tokens,
            connect_s=table.connect_s,
            first_token_s=table.first_token_s,
            token_s=table.token_s,
            patience=Patience(retries=table.retries, most_s=table.retry_s),
        ),
    )


def read_key(name: str, table: ModelTable, environment: Mapping[str, str] = os.environ) -> str | None:
    """The server's key, where it has one. Raises Misconfigured; no message has the key in it."""
    if table.key_env is not None:
        key = environment.get(table.key_env, "").strip()
        if not key:
            raise Misconfigured(f"models.{name}.key_env", f"the environment has no {table.key_env}")
        return key
    return None if table.key_file is None else read_key_file(f"models.{name}.key_file", table.key_file)


def read_key_file(setting: str, path: Path) -> str:
    """A key that is all of a file's text. Raises Misconfigured, naming the setting."""
    try:
        with path.expanduser().open("rb") as file:
            key = file.read(MAX_KEY_BYTES).decode("ascii").strip()
    except OSError as error:
        raise Misconfigured(setting, f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misconfigured(setting, f"{path} is no text in ASCII") from None
    if not key or not key.isprintable() or " " in key:
        raise Misconfigured(setting, f"{path} does not hold one key")
    return key


def _folder(name: str, folder: Path) -> Path:
    """The folder itself, if it holds a whole model."""
    path = folder.expanduser()
    if path.name not in list_models(path.parent):
        raise Misconfigured(f"models.{name}.folder", f"{path} holds no config.json and model.safetensors")
    return path


def shipped_models() -> Path:
    """The folder of the models that come with this program."""
    return Path(str(files("asterism.workers").joinpath("models")))


def list_models(folder: Path) -> dict[str, Path]:
    """Every folder in `folder` that holds a whole model, by its name."""
    if not folder.is_dir():
        return {}
    return {
        entry.name: entry
        for entry in sorted(folder.iterdir())
        if (entry / "config.json").is_file() and (entry / "model.safetensors").is_file()
    }
