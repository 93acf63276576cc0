"""dirsync's command line: ``python -m lockstep SOURCE DESTINATION --sync``, also installed as ``lockstep-dirsync``."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from typing import Any

from ._dirsync import ACTIONS, LISTS, SWITCHES, run
from .errors import Error

_OPTION_FILE = ".dirsync"
_LETTERS = {
    "verbose": "-v",
    "purge": "-p",
    "force": "-f",
    "twoway": "-2",
    "create": "-c",
    "only": "-o",
    "exclude": "-e",
    "include": "-i",
    "ignore": "-x",
}
_HELP = {
    "verbose": "tell each step",
    "purge": "delete what only the destination has",
    "force": "accepted as dirsync does; there is nothing left that needs it",
    "twoway": "with --update: also update the source, from what is newer at the destination",
    "create": "make the destination if it is missing",
    "ctime": "also update what changed in any way after the time of its copy",
    "content": "compare contents, not times",
    "allow_mass_delete": "with --purge: delete however much has to go, also when the source is empty",
    "only": "take only what one of these regular expressions matches",
    "exclude": "count what one of these matches as missing at the source",
    "include": "take what one of these matches, though it is excluded or ignored",
    "ignore": "leave alone what one of these matches, on both sides",
}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lockstep-dirsync",
        description="dirsync's command line, done by `lockstep mirror`. ~/.dirsync and SOURCE/.dirsync have options, too.",
    )
    parser.add_argument("source", help="the source directory")
    parser.add_argument("destination", nargs="?", help="the target directory; SOURCE-mirror if it is left out")
    how: dict[str, Any]
    for action in ACTIONS:
        flags, how = (f"--{action}", f"-{action[0]}"), {"action": "store_const", "const": action}
        parser.add_argument(*flags, dest="action", help=f"the action is {action}", **how)
    for name in (*SWITCHES, *LISTS):
        how = {"nargs": "+", "metavar": "REGEX"} if name in LISTS else {"action": "store_true"}
        letter = [_LETTERS[name]] if name in _LETTERS else []
        parser.add_argument(f"--{name.replace('_', '-')}", *letter, dest=name, help=_HELP[name], **how)
    return parser


def _options_of_files(source: str) -> dict[str, Any]:
    """What ~/.dirsync and then the source's own file say."""
    user = os.path.expanduser(os.path.join("~", _OPTION_FILE))
    # dirsync makes this file at its first run, and this is what it puts there.
    options: dict[str, Any] = {} if os.path.isfile(user) else {"action": "sync"}
    files = ConfigParser()
    files.read([user, os.path.join(source, _OPTION_FILE)])
    if not files.has_section("defaults"):
        return options
    for name, value in files.items("defaults"):
        name = name.replace("-", "_")
        if name == "action":
            if value not in ACTIONS:
                raise ValueError(f'Invalid value for "action" option in configuration file: {value}')
            options[name] = value
        elif name in SWITCHES:
            options[name] = value not in ("0", "False", "false")
        elif name in LISTS:
            options[name] = value.strip("\n").split("\n")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; the exit code is 0, 1 if entries failed, and 2 if it could not be done, as with dirsync."""
    parser = _parser()
    source = parser.parse_args(arguments).source
    try:
        parser.set_defaults(**_options_of_files(source))
        given = vars(parser.parse_args(arguments))
        if given["action"] is None:
            raise ValueError(
                'Argument error: you must select an action using one of the "sync", "update" or "diff" options'
            )
        return 1 if run(**given).failed else 0
    except (Error, ConfigError, ValueError, OSError) as error:
        print(error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
