"""The TrainerX that methods are built on: that of this project's Dassl, or upstream's with what it lacks."""

from __future__ import annotations

from yacs.config import CfgNode

import dassl.engine
from dassl.data import DataManager
from ogkd import models
from ogkd.core import UserError
from ogkd.core.training import RobustTraining
from ogkd.features.items import DatasetWrapper

if issubclass(dassl.engine.TrainerX, RobustTraining):
    TrainerX = dassl.engine.TrainerX
else:

    class TrainerX(RobustTraining, dassl.engine.TrainerX):  # type: ignore[no-redef, misc]
        """Upstream's, with seeds per epoch, runs that resume bit for bit and checks of every number."""

        cfg: CfgNode

        def build_data_loader(self) -> None:
            self._check_input()
            self.dm = dm = self._build_data_manager()
            self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
            self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
            self.num_classes, self.num_source_domains = dm.num_classes, dm.num_source_domains
            self.lab2cname = dm.lab2cname

        def _build_data_manager(self) -> DataManager:
            return DataManager(self.cfg, dataset_wrapper=DatasetWrapper)

        def _check_input(self) -> None:
            """Raise UserError unless images are normalised as for the backbone; upstream's default is ImageNet's."""
            backbone = self.cfg.MODEL.BACKBONE.NAME
            spec = models.image_spec(backbone)
            for key, value in (("PIXEL_MEAN", spec.mean), ("PIXEL_STD", spec.std)):
                if any(abs(one - other) > 1e-3 for one, other in zip(self.cfg.INPUT[key], value, strict=True)):
                    raise UserError(
                        f"INPUT.{key} is {self.cfg.INPUT[key]}, but {backbone} was trained with another: "
                        f'add INPUT.{key} "{list(value)}".'
                    )
