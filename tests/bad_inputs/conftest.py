"""The fixture `user` for the table."""

from tests.user import tiny_folder, user_at_work  # noqa: F401 - fixtures
