"""Templates of tasks in the sandbox of jinja2: a task file runs no code through them."""

import inspect
from typing import Any, NoReturn

import lm_eval.utils
from jinja2 import Environment
from jinja2.sandbox import SandboxedEnvironment, SecurityError

from data_common.messages.errors import UserError

PLAIN = ("builtins", "datetime", "decimal", "jinja2", "markupsafe")  # where the types are from that a template may use


class Sandbox(SandboxedEnvironment):
    """The sandbox of jinja2, in which templates use the attributes and methods of plain values only.

    A picture in a row, say, has a method that writes files.
    """

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read this attribute."""
        return type(obj).__module__.split(".")[0] in PLAIN and super().is_safe_attribute(obj, attr, value)

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Raises UserError for what the sandbox forbids, and all else as it is."""
        try:
            super().handle_exception(source)
        except SecurityError as error:
            raise UserError(f"its template does what no template may do: {error}") from None


def use_sandbox() -> None:
    """Let lm-eval render all templates in the sandbox; its filters and settings stay, and so do the results."""
    plain = lm_eval.utils.env
    names = [name for name in inspect.signature(Environment).parameters if hasattr(plain, name)]
    sandbox = Sandbox(**{name: getattr(plain, name) for name in names})
    sandbox.filters, sandbox.tests = plain.filters, plain.tests
    lm_eval.utils.env = sandbox
