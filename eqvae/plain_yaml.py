"""YAML files that are what they seem: no tag that names code, no anchor without end, no key given twice."""

from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from eqvae.errors import first_line

MAXIMUM_NODES, MAXIMUM_DEPTH = 100_000, 50
PLAIN_TAG = "tag:yaml.org,2002:"
PLAIN_KINDS = ("null", "bool", "int", "float", "str", "timestamp", "binary", "seq", "map", "set", "merge", "value")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def require_plain_yaml(path: str | Path, what: str = "config") -> None:
    """Refuse a YAML file that cannot be read in full.

    Args:
        what: the file is, for the message.

    Raises:
        ValueError: naming the file, and the line where it is known: no such file, no YAML, no keys with values, a tag
            of anything but plain values, an anchor that contains itself, a key that is given twice, more than 50
            levels, or anchors that unfold to more than 100,000 values.
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
    unfolded = _Unfolded(f"{what} {path}")
    if unfolded.measure(root)[0] > MAXIMUM_NODES:
        raise ValueError(f"{what} {path}: its anchors unfold to more than {MAXIMUM_NODES:,} values")


def load_plain_yaml(path: str | Path, what: str = "config") -> DictConfig:
    """The content of a YAML file; arguments and errors as of `require_plain_yaml`, and of values that are none."""
    require_plain_yaml(path, what)
    try:
        loaded = OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{what} {path}, line {line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date of no calendar, a text in another encoding
        raise ValueError(f"{what} {path} cannot be read: {first_line(error)}") from None
    assert isinstance(loaded, DictConfig), "keys with values were asked for"
    return loaded


class _Unfolded:
    """Measures nodes as if every alias were written out; each node is visited once.

    Args:
        where: the nodes come from, for messages.
    """

    def __init__(self, where: str):
        self.where = where
        self.known: dict[int, tuple[int, int] | None] = {}  # None while a node is being measured

    def measure(self, node: yaml.Node, depth: int = 0) -> tuple[int, int]:
        """How many values are in a node, and how deep they nest."""
        if id(node) not in self.known:
            self.known[id(node)] = None
            measured = [self.measure(child, depth + 1) for child in self._children(node, depth)]
            self.known[id(node)] = (
                1 + sum(each[0] for each in measured),
                1 + max((each[1] for each in measured), default=0),
            )
        if (found := self.known[id(node)]) is None:
            raise self._refusal(node, "an anchor contains itself")
        if depth + found[1] > MAXIMUM_DEPTH:
            raise self._refusal(node, f"values nest deeper than {MAXIMUM_DEPTH} levels")
        return found

    def _children(self, node: yaml.Node, depth: int) -> list[yaml.Node]:
        if depth > MAXIMUM_DEPTH:
            raise self._refusal(node, f"values nest deeper than {MAXIMUM_DEPTH} levels")
        if node.tag not in [PLAIN_TAG + kind for kind in PLAIN_KINDS]:
            raise self._refusal(node, f"tag {node.tag.replace(PLAIN_TAG, '!!')} is no plain value: remove it")
        if not isinstance(node, yaml.MappingNode):
            return node.value if isinstance(node, yaml.SequenceNode) else []
        names = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in names:
                raise self._refusal(key, f"the key {key.value} is given twice")
            names.add((key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key))
        return [child for entry in node.value for child in entry]

    def _refusal(self, node: yaml.Node, problem: str) -> ValueError:
        return ValueError(f"{self.where}, line {node.start_mark.line + 1}: {problem}")
