"""The typer application: every verb of every module, and the one place where exceptions become exit codes."""

from __future__ import annotations

import sys
from typing import NoReturn

import click
import typer

from podnet import __version__
from podnet.capture.filters import FilterError
from podnet.cli import bench, clusters, conntrack, etcd, explain, inspect, lab, node, objects, proxy, run
from podnet.cli.output import fail
from podnet.directories import ClusterNameError
from podnet.interrupts import Interrupted
from podnet.launch import ClusterError
from podnet.targets import TargetError
from podnet.topology.spec import SpecError

app = typer.Typer(
    name="podnet",
    help="A Kubernetes network you can hold in your hands: real packets, real kubectl, no containers.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        print(f"podnet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version_flag: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """A Kubernetes network you can hold in your hands."""


clusters.register(app)
run.register(app)
inspect.register(app)
conntrack.register(app)
explain.register(app)
objects.register(app)
bench.register(app)
etcd.register(app)
lab.register(app)
proxy.register(app)
node.register(app)


def _wrong_use(error: click.UsageError) -> NoReturn:
    """A word too many or too few. Of a group without a verb its help is what was missing."""
    path = error.ctx.command_path if error.ctx else "podnet"
    if error.ctx is not None and type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and newer
        print(error.ctx.get_help(), file=sys.stderr)
        sys.exit(error.exit_code)
    fail(" ".join(error.format_message().split()), f"{path} --help", code=error.exit_code)


def main() -> None:
    """The entry point: 0 good, 1 failed, 2 usage."""
    try:
        code = app(prog_name="podnet", standalone_mode=False)  # what is wrong is said below, in a line and not in a box
        sys.exit(code if isinstance(code, int) else 0)
    except click.UsageError as err:
        _wrong_use(err)
    except click.ClickException as err:
        fail(err.format_message(), code=err.exit_code)
    except ClusterError as err:
        fail(str(err), err.fix)
    except (SpecError, ClusterNameError) as err:
        fail(str(err), code=1)
    except (TargetError, FilterError) as err:
        fail(str(err), code=2)
    except Interrupted as err:
        fail(f"interrupted ({err}): what had been started is taken down", code=err.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except UnicodeEncodeError as err:  # a word of the command line that is no text in any locale
        fail(f"{err.object!r} is not UTF-8 text", code=2)
    except OSError as err:  # a full disk, a directory that is not ours: the user's to mend, so no traceback
        where = f"{err.filename}: " if err.filename else ""
        fail(f"{where}{err.strerror or err}")
