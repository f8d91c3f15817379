"""The error a user sees: what is wrong, where, and what to do."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar('E', bound='UserError')


class UserError(ValueError):
    """A request that cannot be carried out.

    Attributes:
      field: the setting, flag or file that is wrong, such as `train.batch_size` or `--workdir=runs/a`; may be empty.
      reason: what is wrong with it.
      remedy: what to do; may be empty.
    """

    def __init__(self, field: str, reason: str, remedy: str = ''):
        super().__init__(field, reason, remedy)
        self.field, self.reason, self.remedy = field, reason, remedy

    def __str__(self) -> str:
        text = f'{self.field}: {self.reason}' if self.field else self.reason
        if not self.remedy:
            return text
        return f'{text} {self.remedy}' if text.endswith(('.', '\n')) else f'{text}; {self.remedy}'

    def at(self: E, field: str, instead: str = '') -> E:
        """The same error as seen from another setting.

        Args:
          field: the setting that led here.
          instead: the field of this error that `field` stands for. An error of any other field keeps it: its name
            follows `field`.
        """
        place = field if self.field in ('', instead) else f'{field}: {self.field}'
        return type(self)(place, self.reason, self.remedy)
