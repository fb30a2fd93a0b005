"""What may be wanted of a row in place of a field: something that is made of all its fields."""

from typing import Any


class WholeRow:
    """Wanted of a line in place of a type: what `read` makes of all its fields, under whatever name."""

    def read(self, row: dict[str, Any]) -> Any:
        """Raises: BadRow."""
        raise NotImplementedError
