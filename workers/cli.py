"""`asterism work` and `asterism bench`: light to import; what they need is imported when they run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_JOIN: Final = "127.0.0.1:7465"


class _Level(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class _Format(StrEnum):
    auto = "auto"
    text = "text"
    json = "json"


def work(
    join: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", envvar="ASTERISM_ADDRESS", help="Whom to work for; of several, with commas."),
    ] = DEFAULT_JOIN,
    token: Annotated[str | None, typer.Option(envvar="ASTERISM_TOKEN", help="The join token.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(envvar="ASTERISM_TOKEN_FILE", help="A file that holds the join token.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(envvar="ASTERISM_CA_FILE", help="Certificates to trust, where the token names none.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="This worker's name. [default: the machine's]")] = None,
    slots: Annotated[int | None, typer.Option(help="Stars to run at once. [default: one a core]")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model to offer (repeat it), or `none`. [default: all there are]")
    ] = None,
    model_dir: Annotated[Path | None, typer.Option(help="A folder of further model folders.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label (repeat it).")] = None,
    threads: Annotated[int, typer.Option(help="OS threads for the model's arithmetic.")] = 1,
    device: Annotated[str, typer.Option(help="Where models compute: cpu, cuda or auto.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="In what: auto, float32, on a GPU bfloat16 or float16, on a CPU int8.")
    ] = "auto",
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve what the models count, for Prometheus, at /metrics.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="ASTERISM_WORKER_CONFIG",
            help="TOML file of models, tools and servers.  [default: worker.toml in the configuration folder]",
        ),
    ] = None,
    serve_models: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve the models to other programs, as OpenAI's APIs do, at /v1, over plain HTTP.",
        ),
    ] = None,
    serve_models_token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="ASTERISM_SERVE_MODELS_TOKEN_FILE",
            help="A file that holds what these programs have to present; needed off loopback.",
        ),
    ] = None,
    drain_s: Annotated[float, typer.Option(help="Seconds for running stars to end after SIGTERM.")] = 30.0,
    log_level: Annotated[_Level, typer.Option(envvar="ASTERISM_LOG_LEVEL")] = _Level.info,
    log_format: Annotated[
        _Format, typer.Option(envvar="ASTERISM_LOG_FORMAT", help="`auto`: text on a terminal, else JSON.")
    ] = _Format.auto,
) -> None:
    """Run stars for an orchestrator, until SIGTERM or Ctrl-C; a second one leaves at once."""
    import asyncio

    from asterism.orchestrator.core.ids import WorkerId
    from asterism.workers.daemon import run_worker
    from asterism.workers.logs import configure_logs
    from asterism.workers.model_server import read_serving
    from asterism.workers.model_sources import read_key_file
    from asterism.workers.settings import WorkSettings, host_name, read_credential, read_labels
    from asterism.workers.worker_file import load_worker_file

    file = load_worker_file(config).settings
    listen, token_path = read_serving(file.serve_models, serve_models, serve_models_token_file)
    settings = WorkSettings(
        join=join,
        name=host_name() if name is None else WorkerId(name),
        credential=read_credential(token, token_file),
        ca_file=ca_file,
        slots=slots,
        models=tuple(model or ()),
        model_dir=model_dir,
        labels=read_labels(label or ()),
        threads=threads,
        device=device,
        dtype=dtype,
        metrics=metrics,
        serve_models=listen,
        serve_credential=None if token_path is None else read_key_file("serve-models-token-file", token_path),
        file=file,
        drain_s=drain_s,
    )
    configure_logs(log_level.value, log_format.value)
    asyncio.run(run_worker(settings))


class _Shown(StrEnum):
    text = "text"
    json = "json"


def tools(
    config: Annotated[
        Path | None, typer.Option(envvar="ASTERISM_WORKER_CONFIG", help="TOML file of tools and servers.")
    ] = None,
    settings: Annotated[
        bool, typer.Option("--settings", help="Every setting of the file, and where its value came from.")
    ] = False,
    output: Annotated[_Shown, typer.Option(help="For people, or for programs.")] = _Shown.text,
) -> None:
    """Show the tools that a worker on this machine would offer, and what confines them."""
    import asyncio

    from asterism.workers.tool_report import report_settings, report_tools
    from asterism.workers.worker_file import load_worker_file

    loaded = load_worker_file(config)
    lines = report_settings(loaded) if settings else asyncio.run(report_tools(loaded.settings))
    typer.echo(lines.to_json() if output is _Shown.json else lines.to_text())


bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)


class _Model(StrEnum):
    small = "5M"
    middle = "50M"
    large = "150M"


class _Dtype(StrEnum):
    float32 = "float32"
    int8 = "int8"


class _Output(StrEnum):
    text = "text"
    json = "json"


@bench.callback()
def _bench() -> None:
    """Measure this machine."""


@bench.command("engine")
def bench_engine(
    model: Annotated[list[_Model] | None, typer.Option(help="A size (repeat it).  [default: all]")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="OS threads of an engine.  [default: the cores]")] = None,
    dtype: Annotated[
        _Dtype, typer.Option(help="What weights are in; int8 is shown with its error, and that of llama.cpp's Q8_0.")
    ] = _Dtype.float32,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds of a case; the best one counts.")] = 3,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="COMMAND", help="A program that measures another engine (repeat it); see `make peers`."),
    ] = None,
    output: Annotated[_Output, typer.Option(help="For people, or for programs.")] = _Output.text,
) -> None:
    """Measure the engine on random weights: decoding by batch, a fork with and without sharing, admission."""
    import asyncio
    import os

    from asterism.workers.bench.cases import Plan
    from asterism.workers.bench.engine import bench_engine as action

    asyncio.run(
        action(
            [each.value for each in model or _Model],
            dtype=dtype.value,
            os_threads=threads or os.cpu_count() or 1,
            plan=Plan(rounds=rounds),
            peers=peer or (),
            as_json=output is _Output.json,
        )
    )
