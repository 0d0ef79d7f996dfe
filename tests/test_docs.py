"""The pages say what is so: links, commands, flags, settings, files and code blocks in them exist.

`mistakes_in` takes the text of a page and returns a sentence for each mistake; a wrong sample of each kind shows that
it finds them.
"""

import ast
import functools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

import pytest
import typer
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from attngan import cli
from attngan.config import settings
from attngan.config.section import Section

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md"))]
PAGES += sorted((ROOT / "docs").glob("*.md"))
MOST_LINES = 200  # of the README
WIDTH = 120  # of a line of prose, as of code

SHELL = {"sh", "bash", "shell", "console"}
NOT_RUN = (
    "not covered by tests"  # what a page, or a section, says of commands that only a cluster or a registry can take
)
PLAIN = {"cd", "curl", "docker", "export", "git", "mkdir", "source"}  # commands that need no check and no such sentence
FILE = re.compile(r"(attngan|benchmarks|components|docs|images|requirements|tests)/[\w./*-]*")
MODULE = re.compile(r"[\w*]+\.py")  # by its name alone
SETTING = re.compile(r"(?P<name>\w+(\.\w+)*)(?P<value>=\S*)?")
PATHS = {"attngan", "benchmarks", "components", "tests"}  # what dotted names of modules begin with


class Block(NamedTuple):
    """A code block: what it is written in, its text, and the prose that stands for it: its page's and its section's."""

    language: str
    text: str
    prose: str


class Page(NamedTuple):
    """What is checked of a page."""

    blocks: list[Block]
    links: list[str]
    spans: list[str]  # code within prose
    anchors: set[str]


def inline(tokens: list[Token]) -> Iterator[Token]:
    """Return all parts of the prose."""
    for token in tokens:
        yield from token.children or []


def text_of(token: Token) -> str:
    return "".join(" " if part.type == "softbreak" else part.content for part in token.children or [])


def anchors_of(tokens: list[Token]) -> list[str]:
    """Return the anchors of a page's headings as GitHub makes them."""
    found: list[str] = []
    for token, content in zip(tokens, tokens[1:]):
        if token.type == "heading_open":
            anchor = re.sub(r"[^\w\- ]", "", text_of(content).lower()).replace(" ", "-")
            found.append(anchor if anchor not in found else f"{anchor}-{found.count(anchor)}")
    return found


def blocks_of(tokens: list[Token]) -> list[Block]:
    """Return the code blocks, each with the prose of its section and of the page before its first section."""
    sections, codes = [""], []
    for token in tokens:
        if token.type == "heading_open" and token.tag != "h1":
            sections.append("")
        elif token.type == "inline":
            sections[-1] += f"{text_of(token)} "
        elif token.type in ("fence", "code_block"):
            codes.append((token, len(sections) - 1))
    return [
        Block(token.info.strip(), token.content, sections[0] + (sections[number] if number else ""))
        for token, number in codes
    ]


def parsed(text: str) -> Page:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    links = [part.attrs["href"] for part in inline(tokens) if part.type == "link_open"]
    links += [part.attrs["src"] for part in inline(tokens) if part.type == "image"]
    spans = [part.content for part in inline(tokens) if part.type == "code_inline"]
    return Page(blocks_of(tokens), links, spans, set(anchors_of(tokens)))


def commands(text: str) -> Iterator[list[str]]:
    """Return the words of each command in a shell block; those inside of $(...) are commands too."""
    lines = iter(text.splitlines())
    for line in lines:
        while line.endswith("\\"):
            line = f"{line[:-1]} {next(lines)}"
        while True:
            try:
                shlex.split(line, comments=True)
                break
            except ValueError:  # a quotation that goes on in the next line
                line = f"{line}\n{next(lines)}"
        if heredoc := re.search(r"<<-?\s*'?(\w+)'?", line):
            while next(lines).strip() != heredoc[1]:
                pass
            line = line[: heredoc.start()]
        for inner in re.findall(r"\$\(([^()]*)\)", line):
            yield from commands(inner)
        lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "x", line), posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


@functools.cache
def programs() -> dict[str, dict[str, typer.core.TyperCommand]]:
    """Return the commands of both command lines by name; that of the pipeline needs kfp."""
    apps = {"attngan": cli.app}
    try:
        import pipeline
    except ImportError:
        pass
    else:
        apps["pipeline.py"] = pipeline.app
    return {name: typer.main.get_command(app).commands for name, app in apps.items()}


@functools.cache
def modules() -> list[str]:
    """Return the names of all modules of this repository."""
    folders = ("attngan", "benchmarks", "components", "requirements", "tests")
    return [path.name for folder in folders for path in (ROOT / folder).rglob("*.py")] + ["pipeline.py"]


@functools.cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def has_setting(name: str) -> bool:
    kind = settings.Config
    *sections, last = name.split(".")
    for section in sections:
        field = kind.model_fields.get(section)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Section)):
            return False
        kind = field.annotation
    return last in kind.model_fields


def wrong_call(program: str, words: list[str], *, whole: bool) -> Iterator[str]:
    """Say what is wrong with a command of ours.

    Args:
        program: `attngan` or `pipeline.py`.
        words: the command and what follows it.
        whole: it is shown as it is typed, so nothing that it needs may be missing.
    """
    if program not in programs() or not words or words in (["--help"], ["--version"]):
        return
    name, *rest = words
    command = programs()[program].get(name)
    if command is None:
        yield f"{program} {name}: no such command"
        return
    given = {word.split("=")[0] for word in rest if re.match("--?[a-zA-Z]", word)}
    known = {option for each in command.params for option in [*each.opts, *each.secondary_opts]} | {"--help"}
    yield from (f"{program} {name} {flag}: no such flag" for flag in sorted(given - known))
    yield from (
        f"--set {value}: no such setting"
        for flag, value in zip(rest, rest[1:])
        if flag == "--set" and not has_setting(value.split("=")[0])
    )
    needed = [each for each in command.params if each.required and each.param_type_name == "option" and not each.envvar]
    if whole and "..." not in rest and "--help" not in rest:
        missing = [each.opts[0] for each in needed if not set(each.opts) & given]
        yield from (f"{program} {name}: {flag} is missing" for flag in missing)


def wrong_command(words: list[str], *, whole: bool) -> Iterator[str]:
    """Say what is wrong with a command, and "?" of one that nobody here knows."""
    while words and (words[0] in ("export", "time") or re.match(r"\w+=", words[0])):
        words = words[1:]
    if not words:
        return
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program == "docker" and "attngan" in rest:  # what runs in the container
        program, *rest = rest[rest.index("attngan") :]
    if program in ("python", "python3"):
        if rest[:1] == ["pipeline.py"]:
            program, *rest = rest
        elif rest[:1] == ["-m"] and rest[1].split(".")[0] == "benchmarks":
            file = ROOT.joinpath(*rest[1].split("."))
            if not (file.with_suffix(".py").is_file() or (file / "__main__.py").is_file()):
                yield f"python -m {rest[1]}: no such module"
            return
        elif rest[:2] == ["-m", "pytest"]:
            yield from (f"{word}: no such file" for word in rest if "/" in word and not (ROOT / word).exists())
            return
    if program in ("attngan", "pipeline.py"):
        yield from wrong_call(program, rest, whole=whole)
    elif program == "make":
        names = [word for word in rest if not word.startswith("-") and "=" not in word]
        yield from (f"make {name}: no such target" for name in names if name not in targets())
    elif program not in PLAIN:
        yield "?"


def wrong_shell(block: Block, variables: dict[str, str]) -> Iterator[str]:
    """Say what is wrong with a shell block.

    Args:
        block: the block.
        variables: flags that variables of this page hold, such as `$RUN`; those of the block are added.
    """
    for words in commands(block.text):
        for word in words:
            if assigned := re.match(r"(\w+)=(--.*)", word, re.DOTALL):
                variables[assigned[1]] = assigned[2]
        filled = []
        for word in words:
            is_variable = word[:1] == "$" and word[1:].isidentifier()
            filled += shlex.split(variables.get(word[1:], "...")) if is_variable else [word]
        for wrong in wrong_command(filled, whole=True):
            if wrong != "?":
                yield wrong
            elif NOT_RUN not in block.prose:
                yield f'{words[0]}: no test runs it; say "{NOT_RUN}" in its section or at the beginning of the page'


def wrong_block(block: Block) -> Iterator[str]:
    """Say what is wrong with a block that is no shell's."""
    try:
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "json":
            [json.loads(line) for line in block.text.splitlines()]
        elif block.language == "yaml":
            values = yaml.safe_load(block.text)
            if "apiVersion" not in values and set(values) & set(settings.Config.model_fields):
                settings.load(block.text)
    except (ValueError, SyntaxError, yaml.YAMLError) as error:
        yield f"a block of {block.language} cannot be read: {error}"


def wrong_link(link: str, folder: Path, own: set[str]) -> Iterator[str]:
    """Say what is wrong with a link from a page in a folder, whose own anchors are given."""
    if re.match(r"\w+:", link):
        return
    name, _, anchor = link.partition("#")
    target = (folder / name).resolve()
    if name and not target.exists():
        yield f"{link}: no such file"
    elif anchor:
        anchors = own if not name else parsed(target.read_text(encoding="utf-8")).anchors
        if anchor not in anchors:
            yield f"{link}: no such heading"


def wrong_span(span: str) -> Iterator[str]:
    """Say what is wrong with code within prose: a command, a file, or a setting."""
    first = span.split(" ")[0].removeprefix(".venv/bin/")
    if first in ("attngan", "make", "pipeline.py", "python") and " " in span and "..." not in span:
        try:
            words = shlex.split(span)
        except ValueError:
            return
        yield from (wrong for wrong in wrong_command(words, whole=False) if wrong != "?")
    elif FILE.fullmatch(span) and not (ROOT / span).exists() and not list(ROOT.glob(span)):
        yield f"{span}: no such file"
    elif MODULE.fullmatch(span):
        if not any(PurePath(name).match(span) for name in modules()):
            yield f"{span}: no such file"
    elif found := SETTING.fullmatch(span):
        name, value = found["name"], found["value"]
        is_meant = name.split(".")[0] in settings.Config.model_fields and not name.endswith((".py", ".json", ".onnx"))
        if "." in name and (is_meant or (value and name.split(".")[0] not in PATHS)) and not has_setting(name):
            yield f"{span}: no such setting"


def long_lines(text: str) -> Iterator[str]:
    """Name lines of prose that are too long; tables, code and lines that are one link cannot be broken."""
    is_code = False
    for number, line in enumerate(text.splitlines(), start=1):
        is_code ^= line.startswith("```")
        if len(line) > WIDTH and not is_code and not line.startswith(("|", "![", "```")):
            yield f"line {number}: {len(line)} characters, at most {WIDTH}"


def mistakes_in(text: str, folder: Path = ROOT) -> list[str]:
    """Return a sentence for each mistake in the text of a page that lies in a folder."""
    page = parsed(text)
    found = list(long_lines(text))
    variables: dict[str, str] = {}
    for block in page.blocks:
        found += wrong_shell(block, variables) if block.language in SHELL else wrong_block(block)
    for link in page.links:
        found += wrong_link(link, folder, page.anchors)
    for span in page.spans:
        found += wrong_span(span)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_says_what_is_so(path):
    assert mistakes_in(path.read_text(encoding="utf-8"), path.parent) == []


def test_the_readme_stays_short_and_leads_to_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in parsed(text).links}
    assert {path for path in PAGES if path.name != "README.md" or path.parent != ROOT} <= linked


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_a_page_of_docs_begins_with_what_it_is_for(path):
    heading, empty, sentence, *_ = path.read_text(encoding="utf-8").splitlines()
    assert heading.startswith("# ") and not empty and sentence.startswith("This page ")


def test_pictures_are_small():
    for name, most in {
        "birds.png": 200_000,
        "film.webp": 500_000,
        "recipes.webp": 200_000,
        "things.png": 200_000,
    }.items():
        assert (ROOT / "docs" / name).stat().st_size <= most


WRONG = {
    "a link to nothing": ("[here](docs/nothing.md)", "docs/nothing.md: no such file"),
    "a picture of nothing": ("![here](docs/nothing.png)", "docs/nothing.png: no such file"),
    "an anchor": ("[here](docs/results.md#nothing)", "#nothing: no such heading"),
    "an anchor of the page itself": ("# One\n\n[here](#two)", "#two: no such heading"),
    "a command": ("```sh\nattngan evaluat --out x\n```", "attngan evaluat: no such command"),
    "a flag": ("```sh\nattngan serve bundle --prot 1\n```", "attngan serve --prot: no such flag"),
    "a flag in prose": ("`attngan serve --prot 1`", "attngan serve --prot: no such flag"),
    "a flag that is missing": ("```sh\nattngan preprocess --source x\n```", "--out is missing"),
    "a flag in a continued line": ("```sh\nattngan serve x \\\n    --prot 1\n```", "--prot: no such flag"),
    "a flag in a container": ("```sh\ndocker run --rm image attngan serve x --prot 1\n```", "--prot: no such flag"),
    "a flag in a variable": ('```sh\nRUN="--prot 1"\nattngan serve x $RUN\n```', "--prot: no such flag"),
    "a target": ("```sh\ncd x && make bananas\n```", "make bananas: no such target"),
    "a target in prose": ("`make bananas`", "make bananas: no such target"),
    "a target inside of another command": ("```sh\nexport X=$(make bananas)\n```", "make bananas: no such target"),
    "a module": ("```sh\npython -m benchmarks.bananas\n```", "benchmarks.bananas: no such module"),
    "a command that no test runs": ("```sh\nkubectl get pods\n```", "kubectl: no test runs it"),
    "a setting": ("`damsm.epoch`", "damsm.epoch: no such setting"),
    "a setting with a value": ("`damsn.epochs=2`", "damsn.epochs=2: no such setting"),
    "a setting on the command line": ("`attngan plan --dataset x --set a.b=1`", "a.b=1: no such setting"),
    "settings in YAML": ("```yaml\ndata:\n  resolutoin: 64\n```", "a block of yaml cannot be read"),
    "Python": ("```python\nfor x in:\n```", "a block of python cannot be read"),
    "JSON": ('```json\n{"file": }\n```', "a block of json cannot be read"),
    "a file": ("`attngan/nothing.py`", "attngan/nothing.py: no such file"),
    "a module by its name": ("`test_nothing.py`", "test_nothing.py: no such file"),
    "a long line": ("word " * 25, "line 1: 125 characters"),
}


@pytest.mark.parametrize(("text", "says"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_a_page_is_found(text, says):
    (mistake,) = mistakes_in(text)
    assert says in mistake


@pytest.mark.parametrize(
    "text",
    [
        f"Commands are {NOT_RUN}.\n\n## One\n\n```sh\nkubectl get pods\n```",
        f"## One\n\nThis is {NOT_RUN}.\n\n```sh\nkubectl apply -f - <<'END'\nwhat(ever\nEND\n```",
        "[one](#one), [out](https://example.com/#x)\n\n# One\n\n`kfp.local`, `a.b`, `damsm.epochs=2`",
        "```sh\nattngan preprocess --source x --out y   # make bananas\n```",
    ],
)
def test_what_is_right_in_a_page_is_not_found_wrong(text):
    assert mistakes_in(text) == []


def test_a_sentence_stands_for_its_own_section_alone():
    text = f"# A\n\n## One\n\nThis is {NOT_RUN}.\n\n## Two\n\n```sh\nkubectl get pods\n```"
    assert len(mistakes_in(text)) == 1


@pytest.mark.skipif("pipeline.py" not in programs(), reason="needs kfp")
def test_what_is_wrong_with_the_pipelines_commands_is_found():
    text = "```sh\npython pipeline.py step evaluate --out x --form-run 1\npython pipeline.py sumbit\n```"
    assert ["--form-run: no such flag" in mistakes_in(text)[0], len(mistakes_in(text))] == [True, 2]
