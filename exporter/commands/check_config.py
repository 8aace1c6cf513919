"""``tcp-exporter check-config``: every mistake of a configuration, and of the web configuration that it names."""

from __future__ import annotations

import argparse

from exporter.commands.options import command_parser, given, refused
from exporter.config import file as configfile
from exporter.errors import ConfigError


def parser() -> argparse.ArgumentParser:
    """The parser of ``check-config``."""
    parser = command_parser(
        "check-config",
        "Checks a configuration file and the web configuration that it names. Exit code 0: valid, 1: mistakes, all of "
        "them printed.",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="configuration file")
    parser.add_argument("--config", "--config.file", dest="named", metavar="FILE", help="the same as FILE")
    parser.add_argument("--web.config.file", dest="web_file", metavar="FILE",
                        help="web configuration to check, instead of the one that FILE names")  # fmt: skip
    return parser


def run(options: argparse.Namespace) -> int:
    """Print which files are valid; ``ConfigError`` has the mistakes of all of them."""
    if options.file is not None and options.named is not None:
        return refused("check-config: expected one FILE, as an argument or with --config, not both")
    file, web_file = given(options.file, options.named), options.web_file
    if file is None and web_file is None:
        return refused("check-config: expected a FILE, or --web.config.file FILE")
    mistakes, valid = list[str](), list[str]()
    if file is not None:
        try:
            web_file = given(web_file, configfile.load(file).web.config_file)
            valid.append(file)
        except ConfigError as error:
            mistakes += error.mistakes
    if web_file:
        from exporter.web import protection

        try:
            protection.load(web_file)
            valid.append(web_file)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    print("\n".join(f"{each}: valid" for each in valid))
    return 0
