"""PhantomGrades under CoOp's name; its facts are in ogkd/data/catalogue.json."""

from ogkd.data.registered import catalogued

PhantomGrades = catalogued()["PhantomGrades"]
