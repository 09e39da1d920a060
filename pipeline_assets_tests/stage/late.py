"""What tells of an attempt whose process was ended, some seconds late, as on a busy host."""

import time

from pipeline_assets.recovery.given_up import main, step_failed

__all__ = ["step_failed"]

if __name__ == "__main__":
    time.sleep(5)
    main()
