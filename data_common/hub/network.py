"""Whether the hub can be reached, without the minute for which its libraries try; the user's token for it.

Imports none of these libraries: what is set in the environment before they are imported counts.
"""

import functools
import http.client
import os
import re
import urllib.error
import urllib.request

from data_common.messages.errors import UserError

TIMEOUT = 3  # seconds until the hub counts as unreachable


@functools.cache
def hub_answers() -> bool:
    """Whether the hub (HF_ENDPOINT) can be reached, through the proxy of the environment if there is one."""
    try:
        request = urllib.request.Request(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), method="HEAD")
        urllib.request.urlopen(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError:  # an answer, if not a kind one
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True


def hub_token() -> str | bool:
    """HF_TOKEN without the blanks around it; False, not None, which would stand for a token stored on this machine.

    Raises: UserError if it is not a token, without showing it.
    """
    value = os.environ.get("HF_TOKEN", "").strip()
    if value and not re.fullmatch(r"[!-~]+", value):
        raise UserError("HF_TOKEN holds blanks or other characters that no token has: set it again, or unset it")
    return value or False
