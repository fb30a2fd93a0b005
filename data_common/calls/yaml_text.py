"""YAML as it is read here: each key is given once, dates are text, and no text costs more than its length."""

from pathlib import Path
from typing import Any

import yaml

from data_common.messages.errors import UserError

MOST_ALIASED = 10_000  # values that aliases may stand for: 400 bytes of nested ones can stand for a billion
DEEPEST = 100  # brackets inside one another: what looks for their ends takes the square of their number
MOST_BITS = 14_000  # of an integer: Python prints none of more than 4,300 digits


class YamlFault(ValueError):
    """Why a text is no YAML that is read here. `line`: counted from 1, None where it is unknown."""

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason)
        self.line = line


def parse_yaml(text: str) -> Any:
    """The value of a YAML document. Raises: YamlFault."""
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        raise YamlFault(error.problem, error.problem_mark and error.problem_mark.line + 1) from None
    except yaml.YAMLError as error:
        raise YamlFault(" ".join(str(error).split())) from None
    except RecursionError:
        raise YamlFault("nested too deeply") from None
    except ValueError as error:  # "\\U00110000"
        raise YamlFault(str(error)) from None


def read_yaml(path: Path, origin: str = "") -> Any:
    """The value of a YAML file. Raises: UserError with the place of the fault, which begins with `origin`."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{origin}no configuration file {path}") from None
    except OSError as error:
        raise UserError(f"{origin}cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{origin}{path}: not UTF-8 text") from None
    except YamlFault as fault:
        line = f":{fault.line}" if fault.line else ""
        raise UserError(f"{origin}{path}{line}: broken YAML: {fault}") from None


class _Loader(yaml.SafeLoader):
    """A key that is given twice is an error, as the standard has it (PyYAML keeps the last); a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as in the base class)
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def fetch_flow_collection_start(self, token: type) -> None:
        if self.flow_level >= DEEPEST:
            raise yaml.scanner.ScannerError(None, None, "nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(token)

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            sizes: dict[yaml.Node, int] = {}
            aliased = _size(node, sizes) - len(sizes)
            if aliased > MOST_ALIASED:
                raise _fault(node, f"its aliases stand for {aliased:,} values")
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):  # no other is taken for a key
                if (name := (key.tag, key.value)) in seen:
                    raise _fault(key, f"{key.value} is set twice")
                seen.add(name)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:  # 0b_, !!bool x, !!float x
            raise _fault(node, f"no value of its kind: {error}") from None
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise _fault(node, "an integer of too many digits")
        return value


def _size(node: yaml.Node, sizes: dict[yaml.Node, int]) -> int:
    """How many values a node stands for, those behind aliases counted each time. sizes: of the nodes seen."""
    if node not in sizes:
        sizes[node] = 0  # while it is counted
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
        sizes[node] = 1 + sum(_size(part, sizes) for part in parts)
    if not sizes[node]:
        raise _fault(node, "an alias stands for what holds it")
    return sizes[node]


def _fault(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
