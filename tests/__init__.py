"""The tests. Before anything is imported: no network, and no file of the user's, whatever a test runs."""

import os
import tempfile

OWNER = "EQVAE_TEST_FILES_OF"  # the process that made them, and removes them; others share them
FOLDERS = ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "TORCH_HOME")

if OWNER not in os.environ:
    user_files = tempfile.mkdtemp(prefix="eqvae-tests-")
    os.environ |= {name: os.path.join(user_files, name.lower()) for name in FOLDERS}
    os.environ |= {OWNER: f"{os.getpid()}:{user_files}", "HF_HUB_OFFLINE": "1"}
