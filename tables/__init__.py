"""Tables over finished runs, as the papers print them."""

from .protocols import average_table, base2new_table, few_shot_table

__all__ = ["average_table", "base2new_table", "few_shot_table"]
