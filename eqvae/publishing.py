"""Folders on the hub: what `--push-to-hub` asks before anything is written, and the upload."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, get_token
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import validate_repo_id

from eqvae.errors import first_line
from eqvae.network import quick_hub


@dataclass(frozen=True)
class Publication:
    """Where a folder goes up.

    Args:
        repository: hub id; made where there is none.
        private: whether a repository that is made is.
        revision: branch, made where there is none; None: the main one.
        message: of the commit; None: the library's.
    """

    repository: str
    private: bool = False
    revision: str | None = None
    message: str | None = None

    def require_possible(self) -> None:
        """Refuse what would fail after the work.

        Raises:
            ValueError: for a name that the hub does not take, without an answer from the hub, or without a token.
        """
        validate_repository(self.repository, "--push-to-hub")
        with quick_hub() as answers:
            if not answers:
                raise ValueError(
                    f"--push-to-hub {self.repository}: the hub does not answer (HF_HUB_OFFLINE, or no network): export "
                    "without it, and push later"
                )
        if get_token() is None:
            raise ValueError(f"--push-to-hub {self.repository}: no token: run `hf auth login`, or set HF_TOKEN")

    def push(self, folder: str | Path) -> str:
        """Upload a folder; what the repository holds beside it stays.

        Returns:
            The address of the commit.

        Raises:
            ValueError: what the hub answers, and how to go on.
        """
        api = HfApi()
        try:
            api.create_repo(self.repository, private=self.private or None, exist_ok=True)
            if self.private and not api.repo_info(self.repository).private:
                raise PublicRepository(
                    f"--push-to-hub {self.repository}: it exists and is public: make it private there, or leave "
                    f"--private out; nothing was uploaded, {folder} is written"
                )
            if self.revision is not None:
                api.create_branch(self.repository, branch=self.revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=self.repository,
                folder_path=folder,
                commit_message=self.message,
                revision=self.revision,
            )
        except PublicRepository:
            raise
        except Exception as error:  # which library asks the hub, and what it raises, differs between releases
            again = f"hf upload {self.repository} {folder}"
            raise ValueError(
                f"--push-to-hub {self.repository}: {first_line(error)}; the folder is written: `{again}`"
            ) from None
        return str(commit.commit_url)


class PublicRepository(ValueError):
    """What was to be private would be seen by all."""


def validate_repository(name: str, option: str) -> None:
    """Refuse what is no id of a repository.

    Raises:
        ValueError: naming the option.
    """
    try:
        validate_repo_id(name)
    except ValueError as error:
        raise ValueError(f"{option} {name}: {first_line(error)}") from None
    if name.count("/") != 1:
        raise ValueError(f"{option} {name}: give OWNER/NAME")


def license_on_hub(repository: str) -> str | None:
    """The licence that a repository's own card gives; None where it gives none or cannot be had within seconds."""
    with quick_hub():
        try:
            found = getattr(ModelCard.load(repository, ignore_metadata_errors=True).data, "license", None)
        except (OSError, ValueError, EntryNotFoundError):  # no such repository or card, no answer, no metadata
            return None
    return found if isinstance(found, str) else None
