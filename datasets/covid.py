"""COVID_19 under CoOp's name; its facts are in ogkd/data/catalogue.json."""

from ogkd.data.registered import catalogued

COVID_19 = catalogued()["COVID_19"]
