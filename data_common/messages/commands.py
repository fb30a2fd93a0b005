"""How a user calls what messages name: scripts in the repository, commands where the package is installed."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IN_REPOSITORY = (ROOT / "pipeline.sh").is_file()
UTILS = "python utils.py" if IN_REPOSITORY else "data-efficacy-utils"
GROUPS = {"kenlm": "kenlm", "lm_eval": "lm-eval", "sklearn": "scikit-learn", "wandb": "wandb"}  # setup.py


def stage_command(stage: str) -> str:
    """What stands before the words of a call of a stage."""
    return f"bash {stage}/entry.sh" if IN_REPOSITORY else stage.replace("_", "-")


def installing(module: str | None) -> str:
    """What is installed for a module that is missing, behind `python -m pip install`."""
    if IN_REPOSITORY:
        return "-r requirements.txt"
    return f'"delt[{GROUPS.get((module or "").partition(".")[0], "all")}]"'
