"""YAML files that are what they seem: no tag that names code, no anchor that contains itself or unfolds without end."""

from pathlib import Path

import yaml

MAXIMUM_NODES = 100_000
PLAIN_TAG = "tag:yaml.org,2002:"
PLAIN_KINDS = ("null", "bool", "int", "float", "str", "timestamp", "binary", "seq", "map", "set", "merge", "value")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def require_plain_yaml(path: str | Path, what: str = "config") -> None:
    """Refuse a YAML file that cannot be read in full.

    Args:
        what: the file is, for the message.

    Raises:
        ValueError: naming the file, and the line where it is known: no such file, no YAML, no keys with values, a tag
            of anything but plain values, an anchor that contains itself, or anchors that unfold to more than 100,000
            values.
    """
    try:
        root = yaml.compose(Path(path).read_bytes(), Loader=LOADER)
    except OSError as error:
        raise ValueError(f"{what} {path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{what} {path}, line {line}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{what} {path} is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{what} {path} holds no keys with values")
    if _count(root, {}, f"{what} {path}") > MAXIMUM_NODES:
        raise ValueError(f"{what} {path}: its anchors unfold to more than {MAXIMUM_NODES:,} values")


def _count(node: yaml.Node, counts: dict[int, int | None], where: str) -> int:
    """Values below a node with every alias written out; each node is visited once."""
    if id(node) in counts:
        if (known := counts[id(node)]) is None:
            raise ValueError(f"{where}, line {node.start_mark.line + 1}: an anchor contains itself")
        return known
    if node.tag not in [PLAIN_TAG + kind for kind in PLAIN_KINDS]:
        tag = node.tag.replace(PLAIN_TAG, "!!")
        raise ValueError(f"{where}, line {node.start_mark.line + 1}: tag {tag} is no plain value: remove it")
    counts[id(node)] = None  # being counted
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    children = [child for entry in inner for child in (entry if isinstance(entry, tuple) else (entry,))]
    counts[id(node)] = 1 + sum(_count(child, counts, where) for child in children)
    return counts[id(node)]
