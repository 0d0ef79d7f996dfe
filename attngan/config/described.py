"""Settings as text that people read and edit: each with its meaning beside it, its comment in `settings.py`."""

import ast
import functools
import inspect
import textwrap
import typing

from attngan.config import settings, yaml_text
from attngan.config.section import Section
from attngan.config.settings import Config

WIDTH = 120  # of a line; a meaning that is longer stands above its setting


def dump(config: Config) -> str:
    """Return the full config as `settings.dump` does, with comments: `settings.load` reads back an equal one."""
    return "\n".join(_lines(config, "")) + "\n"


def _lines(section: Section, indent: str) -> list[str]:
    values, lines = section.model_dump(mode="json"), []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            said = _meanings().get((type(section).__name__, name)) or (type(value).__doc__ or "").partition("\n")[0]
            lines += [*_commented([f"{indent}{name}:"], said.rstrip("."), indent), *_lines(value, f"{indent}  ")]
        else:
            text = textwrap.indent(yaml_text.dump({name: values[name]}), indent).splitlines()
            said = _meanings().get((type(section).__name__, name), "")
            if typing.get_origin(field.annotation) is typing.Literal:
                said = f"one of {', '.join(typing.get_args(field.annotation))}: {said}"
            lines += _commented(text, said, indent)
    return lines


def _commented(text: list[str], said: str, indent: str) -> list[str]:
    """Return the lines of a setting with what is said of it beside them, or above where there is no room."""
    if not said:
        return text
    if len(text) == 1 and len(beside := f"{text[0]}  # {said}") <= WIDTH:
        return [beside]
    return [*(f"{indent}# {line}" for line in textwrap.wrap(said, WIDTH - len(indent) - 2)), *text]


@functools.cache
def _meanings() -> dict[tuple[str, str], str]:
    """Return the comment above and beside each setting, by its section's class and its name."""
    try:
        source = inspect.getsource(settings)
    except OSError:  # attngan was installed without its source
        return {}
    lines, meanings = source.splitlines(), {}
    for section in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for setting in (node for node in section.body if isinstance(node, ast.AnnAssign)):
            above, first, last = [], setting.lineno - 1, (setting.end_lineno or setting.lineno) - 1
            while lines[first - 1].strip().startswith("#"):
                first -= 1
                above.insert(0, lines[first].strip().removeprefix("#").strip())
            beside = lines[last][setting.end_col_offset :].strip().removeprefix("#").strip()
            meanings[section.name, ast.unparse(setting.target)] = " ".join(filter(None, [*above, beside]))
    return meanings
