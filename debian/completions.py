"""The completions of both programs for bash and zsh, made from the options that the programs parse and explain.

``completions.py FOLDER`` writes them while the package is built, each below the folder of its shell. No option is
written here: those of tcp-exporter are its parsers', those of check_tcp_states its help text's. What is, are the values
that a metavar stands for.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.cli import COMMANDS, command
from exporter.health.measures import BY_NAME
from exporter.kernel import READERS
from exporter.nagios.arguments import EVERYTHING, FINDINGS, SYSCTL, help_text
from exporter.tcpstate import BY_LABEL
from exporter.terminal.who import LEAKED

WORDS, LIST, ASSIGNED, FILES, FOLDERS, FREE = "words", "list", "assigned", "files", "folders", "free"


@dataclass(frozen=True)
class Values:
    """What may stand after an option, or as an argument: words, or a kind of which no words are known."""

    metavar: str
    kind: str = FREE
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option under each of its names; *values* is None for a switch."""

    flags: tuple[str, ...]
    about: str
    values: Values | None
    repeatable: bool = False


@dataclass(frozen=True)
class Command:
    """What may follow a command; the plugin is one without a name."""

    name: str
    about: str
    options: tuple[Option, ...]
    argument: Values | None = None


KNOWN = {
    values.metavar: values
    for values in (
        Values("DIR", FOLDERS),
        Values("FILE", FILES),
        Values("MEASURE", LIST, (*BY_NAME, SYSCTL, FINDINGS, EVERYTHING)),
        Values("READER", WORDS, tuple(READERS)),
        Values("SPEC", ASSIGNED, (*BY_NAME, SYSCTL)),
        Values("STATE", WORDS, (*BY_LABEL, LEAKED)),
    )
}
PLUGINS_OPTION = re.compile(r" {1,5}(?:(-\w), )?(--[\w.-]+)(?:=(\S+))?(?: {2,}(\S.*))?")


def main(folder: str) -> None:
    """Write the four files."""
    for program, commands in (("tcp-exporter", daemons_commands()), ("check_tcp_states", [plugins_command()])):
        for path, text in ((f"bash/{program}", bash(program, commands)), (f"zsh/_{program}", zsh(program, commands))):
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


# -- What the programs take --------------------------------------------------------------------------------------------


def daemons_commands() -> list[Command]:
    """The commands of tcp-exporter; the first is the daemon, which needs no name."""
    return [of_parser(name, command(name)[0]) for name in COMMANDS]


def of_parser(name: str, parser: argparse.ArgumentParser) -> Command:
    """What a parser takes."""
    options, argument = list[Option](), None
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
        metavar = str(action.metavar or action.dest.upper())
        if action.choices is not None:
            values = Values(metavar, WORDS, tuple(map(str, action.choices)))
        else:
            values = KNOWN.get(metavar, Values(metavar))
        if action.option_strings:
            flags, repeatable = tuple(action.option_strings), isinstance(action, argparse._AppendAction)  # noqa: SLF001
            taken = values if action.nargs != 0 else None
            options.append(Option(flags, shortened(action.help or ""), taken, repeatable))
        else:
            argument = values
    return Command(name, shortened(parser.description or ""), tuple(options), argument)


def plugins_command() -> Command:
    """What the plugin's help text explains; getopt takes every option more than once."""
    options = list[Option]()
    for block in re.split(r"\n(?= {1,5}-)", help_text().partition("\n\n ")[2].partition("\n\n")[0]):
        first, *more = block.splitlines()
        found = PLUGINS_OPTION.fullmatch(" " + first.lstrip()) if first.lstrip().startswith("-") else None
        if found is None:
            raise SystemExit(f"completions.py: no option: {first!r}")
        short, long, metavar, about = found.groups(default="")
        text = " ".join(" ".join([about, *more]).split())
        flags = (short, long, *re.findall(r"\balso (--[\w.-]+)", text))
        values = KNOWN.get(metavar, Values(metavar)) if metavar else None
        options.append(Option(tuple(filter(None, flags)), shortened(text), values, repeatable=True))
    return Command("", "", tuple(options))


def shortened(text: str) -> str:
    """The beginning of an explanation, for one line of a list."""
    return re.split(r"[;(]|[:.] |\.$", text, maxsplit=1)[0].strip()


# -- Bash --------------------------------------------------------------------------------------------------------------

BASH = """\
# Completion of {program} for bash; written by debian/completions.py.

_{function}()
{{
    local word=${{COMP_WORDS[COMP_CWORD]}} option=${{COMP_WORDS[COMP_CWORD-1]}}
    local command={first} words= files= before= after=
    # --option=value is three words of COMP_WORDS, because "=" separates them.
    if [[ $option == = ]]; then
        option=${{COMP_WORDS[COMP_CWORD-2]}}
    elif [[ $word == = ]]; then
        word=
    fi
{commands}\
    case "$command $option" in
{values}\
        *)
            case $command in
{options}\
            esac
            ;;
    esac
    COMPREPLY=()
    if [[ $files ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -"$files" -- "$word")
    elif [[ $words ]]; then
        [[ $after ]] && compopt -o nospace
        mapfile -t COMPREPLY < <(compgen -P "$before" -S "$after" -W "$words" -- "${{word#"$before"}}")
    fi
}}
complete -F _{function} {program}
"""
BASH_COMMANDS = """\
    if ((COMP_CWORD == 1)) && [[ $word != -* ]]; then
        command= option=
    elif [[ " {names} " == *" ${{COMP_WORDS[1]}} "* ]]; then
        command=${{COMP_WORDS[1]}}
    fi
"""


def bash(program: str, commands: Sequence[Command]) -> str:
    """The completion for bash."""
    names = " ".join(it.name for it in commands)
    by_values: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for each in commands:
        for option in each.options:
            if option.values is not None:
                key = (option.values.kind, option.values.words)
                by_values.setdefault(key, []).extend(f'"{each.name} {flag}"' for flag in option.flags)
    values = "".join(
        " " * 8 + f"{' | '.join(patterns)})\n" + " " * 12 + f"{bash_values(*key)}\n" + " " * 12 + ";;\n"
        for key, patterns in by_values.items()
    )
    several = [f"                '') words='{names}' ;;\n"] if len(commands) > 1 else []
    return BASH.format(
        program=program,
        function=program.replace("-", "_"),
        first=commands[0].name,
        commands=BASH_COMMANDS.format(names=names) if several else "",
        values=values,
        options="".join([*several, *map(bash_options, commands)]),
    )


def bash_values(kind: str, words: tuple[str, ...]) -> str:
    """Set what is completed after an option."""
    return {
        WORDS: f"words='{' '.join(words)}'",
        LIST: f"words='{' '.join(words)}' before=${{word%\"${{word##*,}}\"}}",
        ASSIGNED: f"words='{' '.join(words)}' after='='",
        FILES: "files=f",
        FOLDERS: "files=d",
        FREE: ":",
    }[kind]


def bash_options(each: Command) -> str:
    """Set what is completed where no option waits for a value."""
    flags = " ".join(flag for option in each.options for flag in option.flags)
    argument = "" if each.argument is None else f" else {bash_values(each.argument.kind, each.argument.words)};"
    pattern = each.name or "''"
    return f"                {pattern}) if [[ $word == -* ]]; then words='{flags}';{argument} fi ;;\n"


# -- Zsh ---------------------------------------------------------------------------------------------------------------

ZSH = """\
#compdef {program}
# Completion of {program} for zsh; written by debian/completions.py.

{body}"""
ZSH_COMMANDS = """\
local subcommand={first}
local -a subcommands=(
{described})
if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then
    _describe -t commands command subcommands
    return
fi
if [[ " {names} " == *" $words[2] "* ]]; then
    subcommand=$words[2]
    shift words
    (( CURRENT-- ))
fi
case $subcommand in
{cases}esac
"""


def zsh(program: str, commands: Sequence[Command]) -> str:
    """The completion for zsh."""
    if len(commands) == 1:
        body = zsh_arguments(commands[0], "    ") + "\n"
    else:
        body = ZSH_COMMANDS.format(
            first=commands[0].name,
            names=" ".join(it.name for it in commands),
            described="".join(f"    {quoted(f'{it.name}:{it.about}')}\n" for it in commands),
            cases="".join(f"    {it.name})\n        {zsh_arguments(it, ' ' * 12)}\n        ;;\n" for it in commands),
        )
    return ZSH.format(program=program, body=body)


def zsh_arguments(each: Command, indent: str) -> str:
    """The call that completes one command."""
    specs = [spec for option in each.options for spec in zsh_option(option)]
    if each.argument is not None:
        specs.append(":" + zsh_values(each.argument))
    return " \\\n".join(["_arguments -S", *(indent + quoted(spec) for spec in specs)])


def zsh_option(option: Option) -> Iterator[str]:
    """A spec of _arguments for each name of an option; those that are given once exclude each other."""
    head = "*" if option.repeatable else f"({' '.join(option.flags)})" if len(option.flags) > 1 else ""
    escaped = re.sub(r"([][\\])", r"\\\1", option.about)
    about = f"[{escaped}]" if escaped else ""
    for flag in option.flags:
        joint = "" if option.values is None else "=" if flag.startswith("--") else "+"
        yield f"{head}{flag}{joint}{about}" + ("" if option.values is None else ":" + zsh_values(option.values))


def zsh_values(values: Values) -> str:
    """The message and the action of a spec."""
    words = " ".join(values.words)
    action = {
        WORDS: f"({words})",
        LIST: f"_values -s , {values.metavar} {words}",
        ASSIGNED: f"compadd -S = -- {words}",
        FILES: "_files",
        FOLDERS: "_files -/",
        FREE: " ",
    }[values.kind]
    return values.metavar.replace(":", r"\:") + ":" + action


def quoted(text: str) -> str:
    """The text as one word of a shell."""
    return "'" + text.replace("'", r"'\''") + "'"


if __name__ == "__main__":
    main(sys.argv[1])
