"""`assay run --dry-run`: time, memory, and the smallest effect that the held-out set can show; nothing is trained."""

import math
import shutil
import tempfile
import time
from contextlib import chdir
from pathlib import Path

from flows.request import TrainRequest
from flows.workspace import Workspace, find_project, open_workspace
from pipelines.chat import ChatEncoder
from pipelines.dataset import Row, prompts_of, read_rows
from pipelines.evidence import BaseModelManifest
from pipelines.params import Params
from pipelines.policy import ScreenPolicy, load_policy
from pipelines.power import smallest_detectable_effect
from pipelines.resources import Needs, needs
from pipelines.settings import Settings
from pipelines.value import Value
