"""Tables over finished runs, as the papers print them."""

from .protocols import base2new_table, few_shot_table

__all__ = ["base2new_table", "few_shot_table"]
