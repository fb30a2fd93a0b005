"""Whether the hub can be reached: its libraries try for a minute before they give up."""

import functools
import os
import urllib.error
import urllib.request

TIMEOUT = 3  # seconds until the hub counts as unreachable


@functools.cache
def hub_answers() -> bool:
    """Whether the hub (HF_ENDPOINT) can be reached, through the proxy of the environment if there is one."""
    request = urllib.request.Request(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT).close()
    except urllib.error.HTTPError:  # an answer, if not a kind one
        return True
    except (OSError, ValueError):
        return False
    return True
