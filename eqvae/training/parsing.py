"""What is wrong with a config of `train.py`, in one line, out of the parser's account of every type it has tried."""

import ast
import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from eqvae.commands import explain_arguments, nearest, not_among, one_line
from eqvae.plugins import OPTION, plugins

LEVEL = re.compile(r'Parser key "(.+?)":\s*')
CLASS = re.compile(r"Problem with given class_path '(.+?)':\s*")
UNKNOWN_OPTION = re.compile(r"(?:Group '(?P<group>.+?)' does not accept option|Option) '(?P<name>.+?)'")
UNRECOGNIZED = re.compile(r"unrecognized arguments: --(?P<name>\w+)")
UNKNOWN_CLASS = re.compile(r"(module '.+?' has no attribute '|No module named|Import of module|does not correspond to)")
WRONG_TYPE = re.compile(r"Expected an? (?P<type>.+?)\. Got value: (?P<value>.*)")
ONE_TYPE = re.compile(r"Expected an? (<class '.+?'>)$")
NOTHING = "<class 'NoneType'>"  # what else a value may be is no help
ONE_OF = re.compile(r"Expected a typing\.Literal\[(.+)\]")
NO_CLASS = re.compile(r"Expected a dot import path string: (.+)")
LACKS_ALL = re.compile(r"the following arguments are required: \w+\.(data|model)\b")
CLASS_NAME = re.compile(r"<class '(.+?)'>")
GIVEN = re.compile(r"Given value: (.*)")
ACCOUNT = ("Does not validate", "Subtypes", "Subclass types", "Errors", "Expected", "Given value", "Not a valid")
CLASS_ENTRIES = {"class_path", "init_args", "dict_kwargs"}
PACKAGES = ("eqvae", "dit")
PUBLIC = (
    "eqvae.data",
    "eqvae.module",
    "eqvae.losses",
    "eqvae.regularizers",
    "dit.data",
    "dit.module",
    "dit.backbones",
    "dit.objectives",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
)
"""Modules whose classes configs name."""
RENAMED = {
    "batch_size": "was per device and is gone: set data.init_args.global_batch_size, the number per optimizer step of "
    "all devices and accumulated batches together",
    "explicit": "is gone: list eqvae.regularizers.ExplicitEquivariance in model.init_args.regularizers, with its "
    "transforms and weight",
    "cache_folder": "is cache.folder now",
    "cache_validation": "is cache.validation now",
    "cache_dtype": "is cache.dtype now",
    "cache_content": "is cache.content now",
    "encoding_precision": "is cache.encoding_precision now",
}


def explain(message: str, options: Iterable[str]) -> str:
    """One line: the full key, what is wrong with it, and what is most like it.

    Args:
        message: of jsonargparse, whose indented levels are keys, classes and the types tried for each.
        options: of the parser, `--trainer.max_steps` and the like.
    """
    lines = [line.strip(" -") for line in message.splitlines()]
    values = [given[1] for line in lines if (given := GIVEN.match(line))]
    first = LEVEL.match(message)
    if first and values and (entry := _unknown_entry(first[1], _literal(values[-1]))):
        return entry
    keys, class_path, choices, types, may_be_class = [], None, [], [], False
    for line in lines:
        if level := LEVEL.match(line):
            keys.append(level[1])
            line, types, may_be_class = line[level.end() :], [], False
        if found := CLASS.match(line):
            class_path, line = found[1], line[found.end() :]
        key, arguments = _places(keys, values[-1] if values else "")
        if (found := UNRECOGNIZED.match(line)) and found["name"] in RENAMED:
            return f"{key}.init_args.{found['name']} {RENAMED[found['name']]}"
        if unknown := UNKNOWN_OPTION.match(line):
            return _unknown_option(arguments, unknown["group"], unknown["name"], class_path, options)
        if class_path and UNKNOWN_CLASS.match(line):
            return f"{key}: there is no class {class_path}: {_nearest_class(class_path)}"
        if wrong := WRONG_TYPE.match(line):
            return _wrong_value(key, wrong["value"], _literals(line), wrong["type"])
        choices += _literals(line)
        types += [one[1] for one in ONE_TYPE.finditer(line) if one[1] != NOTHING]
        may_be_class = may_be_class or bool(NO_CLASS.match(line))
        if (choices or (types and not may_be_class)) and (given := GIVEN.match(line)):
            return _wrong_value(key, given[1], choices, " or ".join(types))
        if class_path and line and not line.startswith(ACCOUNT):
            return f"{key}: {_reworded(line)}"
    if LACKS_ALL.match(lines[0]):
        return "nothing says what to train: give --config, with a packaged config's name or a YAML file"
    if keys and (given := next(filter(None, map(NO_CLASS.match, lines)), None)):
        key, _ = _places(keys, values[-1] if values else "")
        return f"{key}: {given[1]} is no class: give the full path of one{_example(given[1])}"
    return explain_arguments(message if keys else lines[0], options)


def _places(keys: list[str], value: str) -> tuple[str, str]:
    """Where a class within classes stands, `model.init_args.backbone`, and where its arguments do.

    Args:
        value: of the first key, as text; where it tells, `init_args` is left out of classes that are given without.
    """
    place, node = "", _literal(value)
    arguments = place
    for key in keys:
        place = f"{arguments}.{key}" if arguments else key
        if arguments and isinstance(node, dict):
            node = (node.get("init_args") or node).get(key)
        with_arguments = not isinstance(node, dict) or not CLASS_ENTRIES.isdisjoint(node)
        arguments = f"{place}.init_args" if with_arguments else place
    return place, arguments


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return None


def _unknown_entry(key: str, node: Any) -> str | None:
    """What stands beside `class_path` and `init_args` of a class, or of one within it, and does not belong there."""
    if not isinstance(node, dict):
        return None
    for name in node if "class_path" in node else ():
        if name not in CLASS_ENTRIES:
            return f"{key}.{name} is unknown: {nearest(name, sorted(CLASS_ENTRIES))}"
    return next(filter(None, (_unknown_entry(f"{key}.{name}", inner) for name, inner in node.items())), None)


def _literals(line: str) -> list[str]:
    found = ONE_OF.match(line)
    return [choice.strip(" '\"") for choice in found[1].split(",")] if found else []


def _unknown_option(key: str, group: str | None, name: str, class_path: str | None, options: Iterable[str]) -> str:
    first = name.split(".")[0]
    if class_path is not None and first in RENAMED:
        return f"{key}.{first} {RENAMED[first]}"
    if class_path is not None:
        return f"{key}.{name} is unknown: {nearest(name, _parameters(class_path))}"
    name, known = f"{group}.{name}" if group else name, [option.lstrip("-") for option in options]
    groups = {option.split(".")[0] for option in known}
    if name.split(".")[0] not in groups:
        name, known = name.split(".")[0], sorted(groups)
    return f"{name} is unknown: {nearest(name, known)}"


def _wrong_value(key: str, value: str, choices: list[str], kind: str) -> str:
    if choices:
        return f"{key}: {not_among(value, choices)}"
    kind = CLASS_NAME.sub(lambda found: found[1], kind)
    return f"{key}: {value} is no {kind.replace('collections.abc.Sequence', 'list, as [1, 2] is one')}"


def _reworded(line: str) -> str:
    if unlike := re.match(r"Import path (.+?) does not implement protocol (\w+)", line):
        return f"{unlike[1]} is no {unlike[2]}: give its methods the arguments and annotations that {unlike[2]} has"
    denied = re.match(r"Importing '(.+?)' is not allowed", line)
    if not denied:
        return one_line(line)
    package = denied[1].split(".")[0]
    way = f"or name your own package at the start, {OPTION} {package}"
    return f"class {denied[1]} is not allowed: use one of eqvae, dit or lightning.pytorch, {way}"


def _parameters(class_path: str) -> list[str]:
    """Names of a class's arguments, those it hands on to its parents included."""
    module, _, name = class_path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    signatures = [inspect.signature(kind.__init__) for kind in inspect.getmro(found) if "__init__" in vars(kind)]
    named = {name for signature in signatures for name in signature.parameters}
    return sorted(named - {"self", "args", "kwargs"})


def _nearest_class(class_path: str) -> str:
    """The class of these packages whose path is most like a mistyped one."""
    packages = (*PACKAGES, *plugins())
    module, _, name = class_path.rpartition(".")
    if not module or module.split(".")[0] not in packages:
        return f"give the full path of one of {', '.join(packages)}"
    modules = [each for package in packages for each in _modules(package)]
    if module in modules:
        known = vars(importlib.import_module(module)).values()
        return nearest(class_path, [f"{module}.{each.__name__}" for each in known if inspect.isclass(each)])
    return nearest(class_path, [f"{each}.{name}" for each in modules])


def _example(name: str) -> str:
    """The path of the class that a bare name may have meant; nothing where none is like it."""
    word = (re.match(r"\w*", name) or [""])[0].lower()
    known = {}
    for module in PUBLIC:
        classes = filter(inspect.isclass, vars(importlib.import_module(module)).values())
        known |= {each.__name__.lower(): f"{module}.{each.__name__}" for each in classes}
    found = [each for each in known if word and each.startswith(word)]
    found = found or difflib.get_close_matches(word, known, n=1)
    return f", such as {known[min(found, key=len)]}" if found else ""


def _modules(package: str) -> list[str]:
    spec = find_spec(package)
    locations = (spec and spec.submodule_search_locations) or []
    return [package, *(each.name for each in pkgutil.walk_packages(locations, f"{package}."))]
