"""Data sets, models and repositories onto the disk, and outputs made again: `python utils.py --help`.

The command is data_common/entry.py.
"""

import sys

from data_common.entry import main

if __name__ == "__main__":
    sys.exit(main())
