"""Whether the hub is asked at all: libraries that try an unreachable hub cost minutes of retries."""

import os
from pathlib import Path

from data_common.hub.network import hub_answers, hub_token

SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")  # read when the libraries of the hub are imported


def settle(model: str, needs_hub: bool) -> None:
    """Switch the hub's libraries to offline where all is local or the hub is out of reach (then they use their cache).

    A user's own setting stays. needs_hub: whether a task comes from the hub; a model that is no folder does too.
    Raises: UserError where the hub is needed and HF_TOKEN is no token.
    """
    needs_hub = needs_hub or not Path(model).is_dir()
    if needs_hub:
        hub_token()  # its libraries read it themselves
    if any(switch in os.environ for switch in SWITCHES) or (needs_hub and hub_answers()):
        return
    if needs_hub:
        print("the hub does not answer: using only what is local or was downloaded before")
    os.environ.update(dict.fromkeys(SWITCHES, "1"))
